"""Laws of CNN fixations, their points, their map, and what they refuse."""

import importlib
from dataclasses import dataclass

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain import cli
from onnxexplain.methods import make
from onnxexplain.methods.cnn_fixations import crowded
from onnxexplain.runtime import Session, capture
from onnxexplain.tensor import Arrays
from tests.builders import net, norm, weights
from tests.pictures import classifier, photograph
from tests.test_fixation_rules import bright, ended
from tests.test_real_models import photograph as squeezed

# ----- Laws -----

DEEP = net(
    """(float[N,3,16,16] x) => (float[N,5] y) {
        c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)
        n1 = BatchNormalization(c1, s_scale, s_b, s_mean, s_var)
        r1 = Relu(n1)  p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
        c2 = Conv<pads=[1,1,1,1]>(p1, w2, b2)  r2 = Relu(c2)
        g2 = GlobalAveragePool(r2)  e1 = Conv(g2, we)  e2 = Sigmoid(e1)  m2 = Mul(r2, e2)
        c3 = Conv<pads=[2,2,2,2], dilations=[2,2]>(m2, w3)  a3 = Add(c3, m2)  r3 = Relu(a3)
        g = GlobalAveragePool(r3)  f = Flatten(g)
        d1 = Gemm<transB=1>(f, v1)  q1 = Relu(d1)  y = Gemm<transB=1>(q1, v2) }""",
    **weights(
        3,
        w1=(8, 3, 3, 3),
        b1=(8,),
        w2=(12, 8, 3, 3),
        b2=(12,),
        we=(12, 12, 1, 1),
        w3=(12, 12, 3, 3),
        v1=(10, 12),
        v2=(5, 10),
    ),
    **norm(4, 8, "s"),
)


@pytest.fixture
def images(rng):
    return rng.standard_normal((3, 3, 16, 16)).astype(np.float32)


def test_a_gate_is_not_followed(images):
    e = ox.explain(DEEP, images, "cnn-fixations", layers="all", outliers=False)
    assert e.layers["m2"].score.sum() == e.layers["r2"].score.sum() > 0
    assert not e.layers["e2"].score.any()


def test_every_fixation_lies_in_a_receptive_field_of_its_parents(images):
    e = ox.explain(DEEP, images, "cnn-fixations", layers="all", outliers=False)
    for child, parent, reach, step in [("x", "c1", 1, 1), ("r1", "p1", 1, 2), ("m2", "c3", 2, 1)]:
        above = np.argwhere(e.layers[parent].score)
        below = e.attributions["x"] if child == "x" else e.layers[child].score
        if child == "m2":  # the skip, too, leads there
            above = np.concatenate([above, np.argwhere(e.layers["a3"].score)])
        for n, _, y, z in np.argwhere(below):
            own = above[above[:, 0] == n]
            assert (np.abs(own[:, 2:] * step - (y, z)).max(axis=1) <= reach).any()


def test_fixations_do_not_multiply_below_the_dense_layers(images):
    e = ox.explain(DEEP, images, "cnn-fixations", layers="all", outliers=False)
    counts = [int((e.layers[n].score[0] != 0).sum()) for n in ("f", "r3", "r2", "p1", "c1", "x")]
    assert counts[0] > 1
    assert counts == sorted(counts, reverse=True)


def test_the_same_each_time_and_in_any_company(images):
    """Of one sample alone and of many, of one class and of all; several targets share one run."""
    together = ox.explain(DEEP, images, "cnn-fixations", targets="all")
    again = ox.explain(DEEP, images, "cnn-fixations", targets="all")
    assert len(together.points) == 5
    for t, row in enumerate(together.points):
        assert len(row) == 3
        for n, points in enumerate(row):
            assert np.array_equal(points, again.points[t][n])
            alone = ox.explain(DEEP, images[n : n + 1], "cnn-fixations", target=t)
            assert np.array_equal(points, alone.points[0])
            assert np.array_equal(together.heatmap()[t, n], alone.heatmap()[0])
    mixed = ox.explain(DEEP, images, "cnn-fixations", target=[4, 0, 2])
    for n, t in enumerate([4, 0, 2]):
        assert np.array_equal(mixed.points[n], together.points[t][n])


def test_the_model_is_loaded_once(images, monkeypatch):
    """What its values are read from is kept for the next call."""
    made = []

    def counted(*given, **more):
        made.append(given)
        return Session(*given, **more)

    module = importlib.import_module("onnxexplain.runtime.capture")  # its function hides it
    monkeypatch.setattr(module, "Session", counted)
    explainer = ox.Explainer(DEEP, "cnn-fixations")
    first = explainer(images[:1])
    assert len(made) == 1
    assert np.array_equal(explainer(images[:1]).points[0], first.points[0])
    assert len(made) == 1


@dataclass
class OnCard:
    """An array in a card's memory: nothing can be read off it before it is fetched."""

    _held: np.ndarray

    def get(self):
        return self._held

    @property
    def shape(self):
        return self._held.shape

    @property
    def dtype(self):
        return self._held.dtype


def test_values_on_a_card_are_fetched_first(images):
    explainer = ox.Explainer(DEEP, "cnn-fixations")
    e = explainer(images[:1], target=3)
    prepared = explainer.prepare({"x": images[:1]})
    names = {t for node in prepared.nodes for t in (*node.inputs, *node.outputs)}
    constants = {n: v for n, v in prepared.lowered.constants.items() if n in names}
    made = sorted(names - set(constants))
    cpu = explainer.question.device
    found = capture(prepared.lowered.proto, {"x": images[:1]}, made, cpu)
    values = {n: OnCard(v) for n, v in (found | constants).items()}
    seed = OnCard(np.eye(5, dtype=np.float32)[3:4])
    way = prepared.way(values, Arrays(np), "y", seed)
    assert np.array_equal(make("cnn-fixations", {})(way).attributions["x"], e.attributions["x"])


def test_a_contrast_looks_for_what_speaks_against_the_other():
    """The score is y0 - y1: units that lower y1 count as those that raise y0."""
    proto = net(
        "(float[N,4] x) => (float[N,2] y) { y = MatMul(x, w) }",
        w=[[1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [-1.0, 0.0]],
    )
    x = np.ones((1, 4), np.float32)
    assert ended(proto, x, 0, against=1) == [(0,), (1,)]


def test_channels_last(rng):
    w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    v = rng.standard_normal((2, 4)).astype(np.float32)
    head = "r = Relu(c)  g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm<transB=1>(f, v)"
    last = net(
        f"""(float[N,9,8,3] x) => (float[N,2] y) {{
            t = Transpose<perm=[0,3,1,2]>(x)  c = Conv(t, w)  {head} }}""",
        w=w,
        v=v,
    )
    first = net(f"(float[N,3,9,8] x) => (float[N,2] y) {{ c = Conv(x, w)  {head} }}", w=w, v=v)
    x = rng.standard_normal((2, 9, 8, 3)).astype(np.float32)
    ours = ox.explain(last, x, "cnn-fixations", target=1)
    theirs = ox.explain(first, x.transpose(0, 3, 1, 2).copy(), "cnn-fixations", target=1)
    assert ours.attributions["x"].shape == x.shape
    for a, b in zip(ours.points, theirs.points, strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(ours.heatmap(), theirs.heatmap())


def test_pooled_channels_on_the_last_axis_are_no_positions(rng):
    """As Keras writes it: all that speak for the class, each at its largest place."""
    proto = net(
        """(float[N,9,8,3] x) => (float[N,1] y) {
            m = ReduceMean<keepdims=1>(x, places)  f = Reshape(m, shape)  y = MatMul(f, v) }""",
        places=np.array([1, 2]),
        shape=np.array([-1, 3]),
        v=[[1.0], [-1.0], [2.0]],
    )
    x = bright(rng, 1, 9, 8, 3)
    best = {np.unravel_index(x[0, :, :, c].argmax(), (9, 8)) for c in (0, 2)}
    assert ended(proto, x, 0) == sorted(tuple(map(int, p)) for p in best)


def test_an_inner_tensor_may_receive_the_fixations(images):
    e = ox.explain(DEEP, images, "cnn-fixations", target=2, wrt="p1", outliers=False)
    whole = ox.explain(DEEP, images, "cnn-fixations", target=2, layers=["p1"], outliers=False)
    assert np.array_equal(e.attributions["p1"], whole.layers["p1"].score)
    assert e.heatmap().shape == (3, 8, 8)
    assert all(p.shape[1] == 2 and p.max() < 8 for p in e.points)


# ----- Points and map -----


def test_lonely_points_are_dropped():
    """Of 41 points 40 lie together; the last has one in 41 near it: fewer than one in twenty."""
    counts = np.zeros((100, 100))
    counts[10:18, 10:15] = 1
    counts[90, 90] = 1
    kept = crowded(counts)
    assert kept[10:18, 10:15].all()
    assert kept.sum() == 40
    counts[90, 90] = 3  # three channels at one pixel: three of 43
    assert crowded(counts)[90, 90]


@pytest.mark.parametrize("shape", [(97,), (23, 31), (9, 14, 11)])
def test_company_is_counted_as_by_comparing_all_with_all(rng, shape):
    for many in (15, 60, 200):
        counts = np.zeros(shape)
        places = tuple((rng.random(many) ** 6 * n).astype(int) for n in shape)
        np.add.at(counts, places, 1)
        points, weight = np.argwhere(counts), counts[counts > 0]
        apart = np.sqrt(((points[:, None] - points) ** 2).sum(axis=-1))
        near = apart < 0.1 * np.sqrt(sum(n * n for n in shape))
        expected = np.zeros(shape, bool)
        expected[tuple(points[near @ weight > 0.05 * many].T)] = True
        assert np.array_equal(crowded(counts), expected)
        assert many == 15 or not expected[tuple(points.T)].all()


def test_a_twentieth_is_not_more_than_a_twentieth():
    counts = np.zeros((100, 100))
    counts[10, 10], counts[90, 90] = 19, 1
    assert not crowded(counts)[90, 90]
    counts[10, 10] = 18
    assert crowded(counts)[90, 90]


def test_what_is_dropped_is_in_no_answer():
    proto = net("(float[N,1,100,80] x) => (float[N,1,100,80] y) { y = Relu(x) }")
    x = np.ones((1, 1, 100, 80), np.float32)
    seed = np.zeros_like(x)
    seed[0, 0, 10:18, 10:15] = seed[0, 0, 90, 70] = 1
    kept, every = (
        ox.explain(proto, x, "cnn-fixations", target=seed, outliers=o) for o in (True, False)
    )
    assert len(kept.points[0]) == kept.attributions["x"].sum() == 40
    assert len(every.points[0]) == every.attributions["x"].sum() == 41
    lonely = every.heatmap()[0] - kept.heatmap()[0]
    assert lonely.sum() == pytest.approx(1, rel=1e-4)
    assert np.unravel_index(lonely.argmax(), lonely.shape)[0] == pytest.approx(90, abs=3)
    sigma = 80 * 20 / 224  # of the shorter side
    ratio = lonely[90, 70] / lonely[80, 70]
    assert ratio == pytest.approx(np.exp(0.5 * (10 / sigma) ** 2), rel=1e-3)


def test_points_exactly_at_the_distance_are_not_near():
    counts = np.zeros((30, 40))  # the diagonal is 50: near is less than 5
    counts[0, :22:2] = 2  # twenty-two
    counts[20, 20] = 1
    assert not crowded(counts)[20, 20]
    counts[24, 23] = 1  # a distance of 5
    assert not crowded(counts)[20, 20]
    counts[24, 23], counts[23, 23] = 0, 1  # of 4.2: two of twenty-four
    assert crowded(counts)[20, 20]


def test_the_map_is_the_density_of_the_points(images):
    e = ox.explain(DEEP, images, "cnn-fixations")
    heat = e.heatmap()
    assert heat.shape == (3, 16, 16)
    assert heat.dtype == np.float32
    assert np.allclose(heat.sum(axis=(1, 2)), e.attributions["x"].sum(axis=(1, 2, 3)), rtol=1e-5)
    sharp = ox.explain(DEEP, images, "cnn-fixations", sigma=0.05).heatmap()
    assert np.allclose(sharp, e.attributions["x"].sum(axis=1), atol=1e-6)
    for counts, points in zip(sharp, e.points, strict=True):
        assert np.array_equal(np.argwhere(counts > 0.5), points)
    side = np.arange(16)
    y, z = e.points[0].T
    bell = np.exp(-0.5 * ((side[:, None] - side) / (16 * 20 / 224)) ** 2)
    bell /= bell.sum(axis=0)
    weight = e.attributions["x"][0].sum(axis=0)[y, z]
    assert np.allclose(heat[0], np.einsum("k,yk,zk->yz", weight, bell[:, y], bell[:, z]), atol=1e-5)


def test_other_methods_have_no_points(images):
    assert ox.explain(DEEP, images, "gradient").points is None


def test_saved_and_drawn(images, tmp_path):
    e = ox.explain(DEEP, images[:1], "cnn-fixations", targets=[1, 3])
    e.save(tmp_path, "it")
    with np.load(tmp_path / "it.npz") as saved:
        assert np.array_equal(saved["attribution/x"], e.attributions["x"])
        for t in range(2):
            assert np.array_equal(
                saved["points"][saved["points"][:, 0] == t][:, 2:], e.points[t][0]
            )
    titles = [ax.get_title(loc="left") for ax in e.plot().axes]
    assert sum("fixations" in title for title in titles) == 2


def test_on_the_command_line(tmp_path, capsys):
    model, photo, out = tmp_path / "model.onnx", tmp_path / "photo.png", tmp_path / "out"
    model.write_bytes(classifier().SerializeToString())
    photograph().save(photo)
    options = ["-m", "cnn-fixations", "-t", "0", "-t", "2", "--option", "keep=0.9", "--report"]
    assert cli.run(["explain", str(model), str(photo), *options, "-o", str(out)]) == 0
    assert "photo: class 0" in capsys.readouterr().out
    assert (out / "photo.png").stat().st_size > 10_000
    with np.load(out / "photo.npz") as saved:
        assert saved["points"].shape[1] == 4
        assert set(saved["points"][:, 0]) == {0, 1}
    assert "density of the fixations" in (out / "photo.html").read_text()


def test_squeezenet_looks_at_the_bird(data):
    """A third of the photograph is blurred background beside the bird."""
    x = squeezed(data("hummingbird.jpg"))
    e = ox.explain(data("squeezenet_imagenet_fp16.onnx"), x, "cnn-fixations")
    y, z = e.points[0].T
    assert len(y) >= 20
    beside = ((z < 60) & (y > 60)) | ((z > 150) & (y < 110))
    assert beside.mean() <= 0.1


# ----- What it refuses -----


def test_attention_is_refused_by_name():
    proto = net(
        """(float[N,5,6] x) => (float[N,5,5] y) {
            t = Transpose<perm=[0,2,1]>(x)  y = MatMul(x, t) }"""
    )
    with pytest.raises(ox.MethodError, match=r"MatMul \(node `.*`\) has weights that depend"):
        ox.explain(proto, np.ones((1, 5, 6), np.float32), "cnn-fixations", target=(0, 0))


def test_what_has_no_rule_is_refused_by_name():
    proto = net("(float[N,3] x) => (float[N,3] y) { y = Pow(x, p) }", p=2.0)
    with pytest.raises(ox.MethodError, match=r"no rule goes down through Pow \(node `.*`\)"):
        ox.explain(proto, np.ones((1, 3), np.float32), "cnn-fixations", target=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "compiled"}, "engine=eager"),
        ({"sigma": 0}, "above zero"),
        ({"sigma": "wide"}, "above zero"),
        ({"keep": 0}, "at most 1"),
        ({"keep": 1.5}, "at most 1"),
        ({"locate": "middle"}, "contribution, activation, centre"),
        ({"outliers": 1}, "true or false"),
    ],
)
def test_options_are_checked(images, options, said):
    with pytest.raises(ox.MethodError, match=said):
        ox.explain(DEEP, images, "cnn-fixations", **options)
