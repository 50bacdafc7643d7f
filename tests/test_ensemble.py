"""Several models explained as one: means that conserve, sums of what is strong in each."""

import json

import numpy as np
import onnx
import pytest

import onnxexplain as ox
from onnxexplain import transport
from tests.builders import net, weights
from tests.pictures import LABELS
from tests.test_cams import DEEP, GAP

POOLED = net(
    """(float[N,3,8,8] image) => (float[N,4,1,1] scores) {
        h = Conv<pads=[1,1,1,1]>(image, w, b)  a = Relu(h)
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
        s = Conv(p, v, c)  scores = GlobalAveragePool(s) }""",
    **weights(7, w=(6, 3, 3, 3), b=(6,), v=(4, 6, 1, 1), c=(4,)),
)
MODELS = (GAP, DEEP, POOLED)


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, 3, 8, 8)).astype(np.float32)


def apart(x, method, **asked):
    return [ox.explain(model, x, method, **asked) for model in MODELS]


def mean(values):
    return np.mean([np.squeeze(v, (-1, -2)) if v.shape[-2:] == (1, 1) else v for v in values], 0)


@pytest.mark.parametrize("targets", [None, "all"])
def test_shares_constants_and_score_are_means_and_add_up(x, targets):
    asked = {"targets": targets} if targets else {"target": [1, 3, 0]}
    e = ox.explain(GAP, x, ensemble=[DEEP, POOLED], **asked)
    members = apart(x, "score-propagation", **asked)
    np.testing.assert_allclose(e.score, mean([m.score for m in members]), rtol=1e-6)
    np.testing.assert_allclose(e.constant, mean([m.constant for m in members]), rtol=1e-6)
    assert np.abs(e.residual).max() < 1e-5
    shares = [next(iter(m.attributions.values())) for m in members]
    np.testing.assert_allclose(e.attributions["x"], np.mean(shares, 0), rtol=1e-6)
    np.testing.assert_allclose(e.heatmap().sum((-1, -2)), e.score, rtol=1e-4, atol=1e-5)
    given = e.attributions["x"].sum((-1, -2, -3), dtype=np.float64)
    np.testing.assert_allclose(given + sum(e.constants.values()), e.score, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(e.logits, mean([m.logits for m in members]), rtol=1e-6)
    np.testing.assert_allclose(e.probabilities, mean([m.probabilities for m in members]))
    assert len(e.members) == 3


@pytest.mark.parametrize("method", ["grad-cam", "crm"])
def test_cams_of_layers_of_any_size_are_averaged_at_the_input(x, method):
    e = ox.explain(GAP, x, method, ensemble=[DEEP, POOLED], target=2)
    maps = []
    for member, side in zip(apart(x, method, target=2), (8, 8, 4), strict=True):
        raw = next(iter(member.attributions.values()))
        assert raw.shape == (3, 1, side, side)
        maps.append(transport.resize(raw[:, 0], (8, 8)))
    np.testing.assert_allclose(e.heatmap(), np.mean(maps, 0), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(e.attributions["x"][:, 0], e.heatmap())
    assert e.layer == "a, r, s"
    assert e.boxes(0.5)


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_a_sum_counts_what_is_strong_in_each(x, threshold):
    e = ox.explain(
        GAP,
        x,
        "crm",
        ensemble=[DEEP, POOLED],
        target=2,
        combine="sum",
        combine_threshold=threshold,
    )
    total = 0
    for member in apart(x, "crm", target=2):
        heat = member.heatmap() / member.heatmap().max((1, 2), keepdims=True)
        total = total + np.where(heat >= threshold, heat, 0)
    np.testing.assert_allclose(e.heatmap(), total, rtol=1e-5)
    assert e.residual is None
    assert ox.explain(GAP, x, ensemble=[DEEP], combine="sum").constant is None


def test_a_map_that_is_nowhere_positive_adds_nothing(x):
    nothing = onnx.ModelProto()
    nothing.CopyFrom(GAP)
    held = next(t for t in nothing.graph.initializer if t.name == "v")
    held.CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 6), np.float32), "v"))
    both = ox.explain(GAP, x, "crm", ensemble=[nothing], target=1, combine="sum").heatmap()
    alone = ox.explain(GAP, x, "crm", target=1).heatmap()
    np.testing.assert_allclose(both, alone / alone.max((1, 2), keepdims=True), rtol=1e-6)


def test_the_strongest_class_is_that_of_the_mean(x):
    """Two models that differ in their answer are asked for the one that the mean gives."""
    turned = onnx.ModelProto()
    turned.CopyFrom(GAP)
    held = next(t for t in turned.graph.initializer if t.name == "v")
    v = onnx.numpy_helper.to_array(held)
    held.CopyFrom(onnx.numpy_helper.from_array(np.roll(v, 1, 0) * np.float32(3), "v"))
    models = [GAP, turned]
    logits = [ox.explain(m, x, target=0).logits for m in models]
    top = np.mean(logits, 0).argmax(1)
    assert any((rows.argmax(1) != top).any() for rows in logits)
    e = ox.explain(GAP, x, "gradient", ensemble=[turned])
    np.testing.assert_array_equal(e.target, top)
    singles = [ox.explain(m, x, "gradient", target=top).attributions["x"] for m in models]
    np.testing.assert_allclose(e.attributions["x"], np.mean(singles, 0), rtol=1e-6)
    both = ox.explain(GAP, x, "gradient", ensemble=[turned], targets=[0, "top"])
    np.testing.assert_array_equal(both.target, [np.zeros(3), top])
    np.testing.assert_array_equal(both.attributions["x"][1], e.attributions["x"])


def test_it_is_saved_drawn_and_called_often(x, tmp_path):
    explainer = ox.Explainer(GAP, ensemble=[DEEP], target=1)
    first, second = explainer(x[:1]), explainer(x[1:2])
    assert not np.array_equal(first.heatmap(), second.heatmap())
    assert "by 2 models" in first.plot().texts[0].get_text()
    first.save(tmp_path)
    record = json.loads((tmp_path / "explanation.json").read_text())
    assert [m["score"] for m in record["ensemble"]] == [m.score.tolist() for m in first.members]
    assert record["options"]["ensemble"] == ["net"]
    assert (tmp_path / "explanation.png").stat().st_size > 1000


def test_layers_are_each_models_own(x):
    e = ox.explain(GAP, x, ensemble=[DEEP], target=1, layers=["a"])
    assert len(e.layers) == 0
    with pytest.raises(ox.MethodError, match=r"e\.members\[0\]"):
        _ = e.layers["a"]
    assert e.members[1].layers["a"].score.shape == (3, 6, 8, 8)


# ----- Refusals -----


def five_classes():
    return net(
        """(float[N,3,8,8] x) => (float[N,5] y) {
            a = Conv(x, w)  g = GlobalAveragePool(a)  y = Flatten(g) }""",
        **weights(1, w=(5, 3, 3, 3)),
    )


def other_size():
    return net(
        """(float[N,3,9,9] x) => (float[N,4] y) {
            a = Conv(x, w)  g = GlobalAveragePool(a)  y = Flatten(g) }""",
        **weights(1, w=(4, 3, 3, 3)),
    )


def labelled(*labels):
    proto = onnx.ModelProto()
    proto.CopyFrom(GAP)
    onnx.helper.set_model_props(proto, {"onnxexplain.labels": json.dumps(labels)})
    return proto


@pytest.mark.parametrize(
    ("first", "options", "kind", "said"),
    [
        (GAP, {"ensemble": [five_classes()]}, ox.ModelError, r"\[5\] per sample.*\[4\]"),
        (GAP, {"ensemble": [other_size()]}, ox.InputError, "take the same input"),
        (
            GAP,
            {"ensemble": [DEEP], "layer": "r"},
            ox.MethodError,
            "net: no tensor `r`|no tensor `r`",
        ),
        (GAP, {"ensemble": GAP}, ox.MethodError, "list of models"),
        (GAP, {"ensemble": [DEEP], "layer": "all"}, ox.MethodError, "one layer of each"),
        (GAP, {"combine": "sum"}, ox.MethodError, "ensemble="),
        (GAP, {"ensemble": [DEEP], "combine": "median"}, ox.MethodError, "mean, sum"),
        (GAP, {"ensemble": [DEEP], "combine_threshold": 0.2}, ox.MethodError, "combine=sum"),
        (
            GAP,
            {"ensemble": [DEEP], "combine": "sum", "combine_threshold": 2},
            ox.MethodError,
            "0 to 1",
        ),
        (
            labelled(*LABELS, "fish"),
            {"ensemble": [labelled(*LABELS, "fowl")]},
            ox.ModelError,
            "same classes",
        ),
    ],
)
def test_what_does_not_fit_is_named(first, options, kind, said, x):
    with pytest.raises(kind, match=said):
        ox.explain(first, x, "grad-cam", target=0, **options)
