"""The public face: the names that are promised, and what a custom operator needs."""

import threading

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.ops import _operator
from tests.builders import dr_weights, net
from tests.nets import NETS, data

OWED = {
    "DeviceError",
    "Explainer",
    "Explanation",
    "InputError",
    "MethodError",
    "Model",
    "ModelError",
    "OnnxExplainError",
    "Plan",
    "UnsupportedOperator",
    "dr_network",
    "explain",
    "load",
    "methods",
    "operator",
}
METHODS = {"score-propagation", "gradient", "input-x-gradient", "grad-cam"}


def test_names():
    assert set(ox.__all__) >= OWED
    assert list(ox.__all__) == sorted(ox.__all__)
    for name in ox.__all__:
        assert getattr(ox, name) is not None
        assert name in dir(ox)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ox.no_such_name


@pytest.mark.parametrize("name", sorted(OWED))
def test_documented(name):
    thing = getattr(ox, name)
    assert (thing.__doc__ or "").strip().endswith((".", "it.", ")")) or len(thing.__doc__) > 20


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ModelError", ValueError),
        ("InputError", ValueError),
        ("MethodError", ValueError),
        ("UnsupportedOperator", NotImplementedError),
        ("DeviceError", RuntimeError),
    ],
)
def test_tree_of_errors(name, builtin):
    error = getattr(ox, name)
    assert issubclass(error, ox.OnnxExplainError)
    assert issubclass(error, builtin)


def test_methods():
    records = {record["name"]: record for record in ox.methods()}
    assert set(records) >= METHODS
    assert records["score-propagation"]["options"] == {
        "receptive_field": "true",
        "prior": "gauss",
        "ties": "first",
        "product": "share",
        "norm": "exact",
    }
    assert records["gradient"]["options"] == {"part": "signed"}
    for record in records.values():
        assert record["summary"]
        assert record["reference"]


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("engine", ["eager", "compiled", "auto"])
def test_every_method_runs(method, engine):
    proto = NETS["blocked"]
    e = ox.explain(proto, data(proto, 2), method, engine=engine)
    assert repr(e).startswith(f"<Explanation of `y` by {method}")
    assert "\n" not in repr(e)
    assert e.method == method
    assert e.target.shape == e.score.shape == (2,)
    assert (e.constant is None) == (e.residual is None) == (method in ("gradient", "grad-cam"))
    assert e.heatmap().shape == (2, 8, 8)
    expected = {"a"} if method == "grad-cam" else {"x"}  # what enters the final pooling
    assert set(e.attributions) == expected


def test_gradient_parts():
    proto = NETS["relu"]
    x = data(proto, 1)
    parts = {
        part: ox.explain(proto, x, "gradient", part=part, target=0).attributions["x"]
        for part in ("signed", "positive", "negative", "absolute", "squared")
    }
    signed = parts["signed"]
    assert np.array_equal(parts["positive"], np.maximum(signed, 0))
    assert np.array_equal(parts["negative"], np.minimum(signed, 0))
    assert np.array_equal(parts["absolute"], np.abs(signed))
    assert np.allclose(parts["squared"], signed**2)


def test_shares_are_input_times_gradient():
    proto = NETS["blocked"]
    x = data(proto, 2)
    shares, products, gradient = (
        ox.explain(proto, x, m, target=1).attributions["x"]
        for m in ("score-propagation", "input-x-gradient", "gradient")
    )
    assert np.allclose(shares, products, atol=1e-7)
    assert np.allclose(shares, gradient * x["x"], atol=1e-6)


def test_grad_cam_is_cam_for_a_pooled_linear_head():
    """the method: with global average pooling and a linear head, times HW, before the ReLU."""
    proto = NETS["relu"]
    weights = {t.name: t for t in proto.graph.initializer}
    from onnx import numpy_helper

    v = numpy_helper.to_array(weights["v"])
    e = ox.explain(proto, data(proto, 2), "grad-cam", relu=False, target=2, layers="a")
    assert e.layer == "a"
    maps = e.layers["a"].activation
    cam = np.einsum("k,nkhw->nhw", v[2], maps)[:, None]
    assert np.allclose(e.attributions["a"] * 64, cam, atol=1e-5)
    positive = ox.explain(proto, data(proto, 2), "grad-cam", target=2)
    assert np.allclose(positive.attributions["a"], np.maximum(e.attributions["a"], 0), atol=1e-7)


def test_layers_of_a_gradient_are_derivatives():
    proto = NETS["relu"]
    e = ox.explain(proto, data(proto, 1), "gradient", target=0, layers="a")
    assert e.layers["a"].score.shape == (1, 6, 8, 8)
    with pytest.raises(ox.MethodError, match="shares nothing out"):
        _ = e.layers["a"].constant


# ----- The model -----


def test_model(tmp_path):
    path = ox.dr_network(dr_weights(), tmp_path / "dr.onnx")
    model = ox.load(path)
    assert ox.load(path.read_bytes()).sha256 == model.sha256
    assert ox.load(model) is model
    graph = model.graph
    kinds = [kind for _, kind in graph.nodes(data="kind")]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "conv": 15,
        "batchnorm": 15,
        "relu": 15,
        "pool": 8,
        "gemm": 1,
        "flatten": 1,
        "identity": 1,
        "input": 1,
        "output": 1,
    }
    assert graph.nodes["/rf3/Conv"]["role"] == "linear"
    assert "rf3" in model.summary()
    assert model.labels[4] == "proliferative DR"
    assert model.preprocess["size"] == [640, 640]


def test_two_edges_of_a_square():
    graph = ox.load(NETS["square"]).graph
    edges = [d for a, b, d in graph.edges(data=True) if graph.nodes[b]["op"] == "Mul"]
    assert [(d["tensor"], d["slot"]) for d in edges] == [("h", 0), ("h", 1)]


@pytest.mark.parametrize("end", ["Softmax<axis=1>", "LogSoftmax<axis=1>", "Sigmoid"])
def test_the_logit_is_explained(end):
    """What ends the file is stepped over, through whatever merely carries it."""
    proto = net(
        f"""(float[N,3] x) => (float[N,2] y) {{
            logits = Gemm(x, w)  p = {end}(logits)  i = Identity(p)  y = Reshape(i, shape) }}""",
        w=np.arange(6.0).reshape(3, 2),
        shape=np.array([0, -1]),
    )
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    e = ox.explain(proto, x, target=1)
    assert e.output == "logits"
    assert e.score == pytest.approx([22.0])
    assert ox.explain(proto, x, target=1, output="y").output == "y"


def test_wrt_an_inner_tensor():
    proto = NETS["residual"]
    e = ox.explain(proto, data(proto, 2), wrt="r", target=1)
    assert list(e.attributions) == ["r"]
    assert e.attributions["r"].shape == (2, 6, 8, 8)
    assert np.abs(e.residual).max() < 1e-6
    assert "h" not in e.constants


# ----- A custom operator -----


@pytest.fixture
def registered():
    """Let a test register operators, and forget them afterwards."""
    before = dict(_operator._OPERATORS)
    yield
    _operator._OPERATORS.clear()
    _operator._OPERATORS.update(before)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.usefixtures("registered")
def test_a_custom_operator_works_end_to_end(engine):
    proto = net("(float[N,3] x) => (float[N,3] y) { e = Elu<alpha=0.5>(x)  y = Identity(e) }")
    x = np.array([[-1.0, 0.5, 2.0]], np.float32)
    if _operator.find("", "Elu") is None:
        with pytest.raises(ox.UnsupportedOperator, match=r"Elu \(node `Elu_0`\)"):
            ox.explain(proto, x, target=0)

    def back(xp, g, y, x, *, alpha=1.0):
        return (xp.where(x > 0, g, g * (y + alpha)),)

    ox.operator("Elu", role="activation", offset=_operator.elementwise(back))(back)
    e = ox.explain(proto, x, target=np.ones((1, 3)), engine=engine)
    slope = np.array([0.5 * np.exp(-1), 1, 1])
    assert np.allclose(e.attributions["x"], slope * x, atol=1e-6)
    assert e.constant == pytest.approx([0.5 * (np.exp(-1) - 1) + 0.5 * np.exp(-1)], rel=1e-5)
    assert abs(e.residual[0]) < 1e-6


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.usefixtures("registered")
def test_an_operator_without_an_offset_conserves(engine):
    """Its total is what its shares leave: no map, but nothing is lost."""

    def back(xp, g, y, x):
        return (g * y,)

    ox.operator("Exp", role="activation", offset=None)(back)
    proto = net("(float[N,3] x) => (float[N,3] y) { h = Exp(x)  y = Neg(h) }")
    x = np.array([[-1.0, 0.5, 2.0]], np.float32)
    e = ox.explain(proto, x, target=2, engine=engine)
    assert e.constant == pytest.approx([-np.exp(2) + 2 * np.exp(2)], rel=1e-5)
    assert abs(e.residual[0]) < 1e-6


def test_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match="no role"):
        ox.operator("Elu", role="magic")


# ----- Called often, from many threads -----


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_threads_get_the_same(engine):
    proto = NETS["blocked"]
    batches = [data(proto, n, seed) for n, seed in [(1, 0), (2, 1), (3, 2), (1, 3)]]
    explainer = ox.Explainer(proto, engine=engine)
    expected = [ox.explain(proto, x, engine=engine, targets=[0, 2]) for x in batches]
    found: dict[tuple[int, int], ox.Explanation] = {}
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for i, x in enumerate(batches):
                found[worker, i] = explainer(x, targets=[0, 2])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for (_, i), e in found.items():
        assert np.array_equal(e.attributions["x"], expected[i].attributions["x"])
        assert np.array_equal(e.constant, expected[i].constant)


def test_what_was_handed_in_is_left_alone():
    proto = NETS["blocked"]
    before = proto.SerializeToString(deterministic=True)
    x = data(proto, 2)
    copy = x["x"].copy()
    ox.explain(proto, x, targets="all")
    assert proto.SerializeToString(deterministic=True) == before
    assert np.array_equal(x["x"], copy)


def test_float64_data_and_lists_are_taken():
    proto = NETS["relu"]
    x = data(proto, 1)["x"]
    expected = ox.explain(proto, x, target=0).attributions["x"]
    for given in (x.astype(np.float64), x.tolist(), np.asfortranarray(x)):
        assert np.allclose(ox.explain(proto, given, target=0).attributions["x"], expected)
    half = x.astype(np.float16)
    assert ox.explain(proto, half, target=0).attributions["x"].dtype == np.float32
