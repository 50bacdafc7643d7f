"""Class prototypes: the derivative, the penalties, and the laws of the whole."""

import math

import array_api_strict
import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.methods import Way
from onnxexplain.prototypes.descent import Adam, blurred
from onnxexplain.prototypes.objective import Loss, ask, slope
from onnxexplain.prototypes.penalties import pull, variation
from onnxexplain.tensor import Arrays
from tests.builders import net, weights
from tests.nets import NETS

HELD = weights(3, w=(6, 8), b=(5,), v=(5, 6))
LINEAR = net(
    "(float[N,8] x) => (float[N,5] y) { h = Gemm<transB=1>(x, w)  y = Gemm<transB=1>(h, v, b) }",
    **HELD,
)
MATRIX = (HELD["v"] @ HELD["w"]).astype(np.float64)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def climb(proto, x, classes, objective="cross-entropy", **options):
    """Return derivative, losses and scores at one point."""
    explainer = ox.Explainer(proto, "gradient", **options)
    ask(explainer, objective)
    name = next(iter(explainer.model.inputs))
    return slope(explainer, name, x, np.asarray(classes))(x)


# ----- The derivative -----


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_closed_form_of_a_linear_network(rng, engine):
    x = rng.standard_normal((3, 8)).astype(np.float32)
    gradient, loss, scores = climb(LINEAR, x, [0, 4, 2], engine=engine)
    z = x @ MATRIX.T + HELD["b"]
    p = softmax(z)
    assert np.allclose(scores, z, atol=1e-5)
    assert np.allclose(gradient, (p - np.eye(5)[[0, 4, 2]]) @ MATRIX, atol=1e-5)
    assert np.allclose(loss, -np.log(p[range(3), [0, 4, 2]]), atol=1e-5)
    gradient, loss, _ = climb(LINEAR, x, [0, 4, 2], "logit", engine=engine)
    assert np.allclose(gradient, -MATRIX[[0, 4, 2]], atol=1e-5)
    assert np.allclose(loss, -z[range(3), [0, 4, 2]], atol=1e-5)


HEAD = weights(7, w=(4, 3, 3, 3), b=(4,), v=(1, 4))
ENDS = {
    "softmax": "s = GlobalAveragePool(a)  f = Flatten(s)  y = Softmax<axis=1>(f)",
    "positions": "y = Identity(a)",
    "sigmoids": "s = GlobalAveragePool(a)  f = Flatten(s)  y = Sigmoid(f)",
    "one": "s = GlobalAveragePool(a)  f = Flatten(s)  y = Gemm<transB=1>(f, v)",
    "bare": "s = GlobalAveragePool(a)  f = Flatten(s)  m = Gemm<transB=1>(f, v)"
    "  y = Squeeze(m, last)",
}


def ended(kind):
    shapes = {"one": "N,1", "bare": "N", "positions": "N,4,6,6"}
    return net(
        f"""(float[N,3,6,6] x) => (float[{shapes.get(kind, "N,4")}] y) {{
            h = Conv<pads=[1,1,1,1]>(x, w, b)  a = Tanh(h)  {ENDS[kind]} }}""",
        **HEAD,
        last=np.array([1]),
    )


@pytest.mark.parametrize("objective", ["cross-entropy", "logit"])
@pytest.mark.parametrize("kind", ENDS)
def test_the_derivative_is_that_of_the_loss(rng, kind, objective):
    """Central differences in float64; the compiled engine gives the same."""
    proto, x = ended(kind), rng.standard_normal((2, 3, 6, 6))
    classes = [0, 0] if kind in ("one", "bare") else [3, 1]
    way = rng.standard_normal(x.shape)
    gradient, loss, scores = climb(proto, x, classes, objective, dtype="float64")
    step = 1e-6
    ahead, behind = (
        climb(proto, x + s * way, classes, objective, dtype="float64")[1] for s in (step, -step)
    )
    slopes = (gradient * way).sum((1, 2, 3))
    assert gradient.dtype == np.float64
    assert slopes == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-9)
    fast = climb(proto, x.astype(np.float32), classes, objective, engine="compiled")
    for ours, theirs in zip(fast, (gradient, loss, scores), strict=True):
        assert ours.dtype == np.float32
        assert np.allclose(ours, theirs, atol=2e-5)


def test_the_cross_entropy_is_that_of_the_models_own_end(rng):
    x = rng.standard_normal((1, 3, 6, 6)).astype(np.float32)
    for kind in ("softmax", "sigmoids", "one"):
        c = 0 if kind == "one" else 2
        p = ox.prototype(ended(kind), c, x, steps=0)
        assert p.loss == pytest.approx([-math.log(p.probabilities[0, c])], rel=1e-5)


@pytest.mark.parametrize("loss", [Loss(), Loss("logit"), Loss("cross-entropy", sigmoid=True)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_nothing_but_the_standard(loss, dtype):
    """Every word of the loss is one of the array API, and keeps the dtype."""
    strict = array_api_strict.asarray
    values = {"y": strict(np.array([[1, 2, -3]], dtype))}
    seed = strict(np.array([[0, 1, 0]], dtype))
    way = Way(Arrays(array_api_strict), (), values, frozenset("y"), ("y",), "y", seed)
    found = loss(way)
    wanted = getattr(array_api_strict, dtype)
    assert found.attributions["y"].dtype == found.extra["loss"].dtype == wanted


# ----- The penalties -----


@pytest.mark.parametrize(
    "penalty", [pull(np.float32(0.25), 0.7), variation(0.5)], ids=["pull", "variation"]
)
def test_the_derivative_of_a_penalty(rng, penalty):
    x, way = rng.standard_normal((2, 2, 3, 5, 4))
    value, gradient = penalty(x)
    ahead, behind = (penalty(x + s * way)[0] for s in (1e-6, -1e-6))
    assert value.shape == (2,)
    assert (gradient * way).sum((1, 2, 3)) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)
    assert penalty(x.astype(np.float32))[1].dtype == np.float32


def test_the_total_variation_of_known_pictures():
    flat, stripes = np.ones((1, 1, 4, 4)), np.zeros((1, 1, 4, 4))
    stripes[..., 1::2] = 3.0
    assert variation(2.0)(flat)[0] == pytest.approx([0], abs=1e-12)
    # three steps of 3 in each of four rows, over 16 pixels, times 2
    assert variation(2.0)(stripes)[0] == pytest.approx([2 * 3 * 12 / 16], rel=1e-3)


def test_a_blur_keeps_what_there_is(rng):
    x = np.zeros((1, 1, 21, 21), np.float32)
    x[..., 10, 10] = 1
    soft = blurred(x, 1.5)
    assert soft.dtype == np.float32
    assert soft.sum() == pytest.approx(1, rel=1e-5)
    assert np.allclose(soft, soft[..., ::-1, :])
    assert np.allclose(soft, soft.swapaxes(-1, -2))
    place = np.arange(21) - 10
    assert (soft[0, 0] * place**2).sum() == pytest.approx(1.5**2, rel=0.05)
    assert np.allclose(blurred(np.full((2, 3, 5, 4), 0.7), 2.0), 0.7)


def test_adam_is_the_papers():
    g, adam, x = np.array([0.5, -2.0, 1e-9]), Adam(np.zeros(3), 0.1), np.zeros(3)
    slow, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    for t in range(1, 6):
        x = x - adam(g * t)
        m = 0.9 * m + 0.1 * (g * t)
        v = 0.999 * v + 0.001 * (g * t) ** 2
        slow = slow - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    assert np.allclose(x, slow, rtol=1e-12)


# ----- Laws of the whole -----


def test_no_step_gives_back_the_start(rng):
    x = rng.standard_normal((2, 8)).astype(np.float32)
    p = ox.prototype(LINEAR, [1, 3], x, steps=0)
    assert np.array_equal(p.images, x)
    assert np.array_equal(p.start, x)
    assert p.loss.shape == (1,)
    assert np.array_equal(ox.prototype(LINEAR, 1, steps=0).images, np.zeros((1, 8)))


def test_at_the_optimum_both_parts_balance(rng):
    z = rng.uniform(0, 1, (5, 8))
    p = ox.prototype(LINEAR, "all", mean=z, mean_weight=2.0, steps=1500, dtype="float64")
    pushed = (softmax(p.logits) - np.eye(5)) @ MATRIX / 5
    pulled = 2 * 2.0 / z.size * (p.images - z)
    assert np.abs(pushed).max() > 1e-3
    assert np.abs(pushed + pulled).max() < 1e-5
    assert p.logits.argmax(1).tolist() == [*range(5)]
    assert np.diff(p.loss[::100]).max() < 1e-9  # it falls


def test_a_heavy_mean_image_wins(rng):
    z = rng.uniform(0, 1, (5, 8)).astype(np.float32)
    p = ox.prototype(LINEAR, "all", mean=z, mean_weight=1e6, steps=600)
    assert np.allclose(p.images, z, atol=1e-3)
    assert np.array_equal(p.mean, z)


def test_the_images_know_nothing_of_one_another():
    three, other = (ox.prototype(LINEAR, [3, c, 0], steps=60, tv=0.0) for c in (1, 4))
    assert np.array_equal(three.images[[0, 2]], other.images[[0, 2]])
    assert not np.allclose(three.images[1], other.images[1])
    alone = ox.prototype(LINEAR, 3, steps=60)  # but for the mean over three
    assert np.allclose(alone.images[0], three.images[0], atol=1e-4)


@pytest.mark.parametrize("name", ["relu", "max-pool", "residual"])
def test_both_engines_paint_the_same(name):
    options = {"steps": 15, "start": "noise", "tv": 0.1, "jitter": 1}
    eager, fast = (
        ox.prototype(NETS[name], [0, 2], engine=e, **options) for e in ("eager", "compiled")
    )
    assert np.allclose(fast.images, eager.images, atol=1e-3)
    assert fast.images.dtype == eager.images.dtype == np.float32
    assert np.allclose(fast.loss, eager.loss, atol=1e-4)


def test_one_by_one_is_the_same_as_together():
    body = "{ h = Conv(x, w, b)  a = Tanh(h)  g = GlobalAveragePool(a)  y = Flatten(g) }"
    held = weights(7, w=(4, 3, 3, 3), b=(4,))
    free = net(f"(float[N,3,6,6] x) => (float[N,4] y) {body}", **held)
    fixed = net(f"(float[1,3,6,6] x) => (float[1,4] y) {body}", **held)
    for engine in ("eager", "compiled"):
        both = [ox.prototype(m, [0, 3, 2], steps=20, engine=engine) for m in (free, fixed)]
        assert np.allclose(both[0].images, both[1].images, atol=1e-5)
        assert both[1].logits.shape == (3, 4)


def test_preprocessing_is_undone():
    """A network of pixels and its twin of normalised ones give the same pictures."""
    mean, std = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.25, 0.5])
    shape = {"mu": mean.reshape(3, 1, 1), "sigma": std.reshape(3, 1, 1)}
    held = weights(7, w=(4, 3, 3, 3), b=(4,))
    body = "a = Tanh(h)  g = GlobalAveragePool(a)  y = Flatten(g) }"
    plain = net(f"(float[N,3,6,6] x) => (float[N,4] y) {{ h = Conv(x, w, b)  {body}", **held)
    twin = net(
        f"""(float[N,3,6,6] x) => (float[N,4] y) {{
            s = Mul(x, sigma)  p = Add(s, mu)  h = Conv(p, w, b)  {body}""",
        **held,
        **shape,
    )
    last = net(
        f"""(float[N,6,6,3] x) => (float[N,4] y) {{ t = Transpose<perm=[0,3,1,2]>(x)
            s = Mul(t, sigma)  p = Add(s, mu)  h = Conv(p, w, b)  {body}""",
        **held,
        **shape,
    )
    options = {"start": "grey", "steps": 30, "tv": 0.01, "bounds": (0, 1)}
    recipe = {"mean": mean.tolist(), "std": std.tolist()}
    ours = ox.prototype(plain, [1, 2], **options)
    theirs = ox.prototype(twin, [1, 2], preprocess=recipe, **options)
    swapped = ox.prototype(last, [1, 2], preprocess=recipe, **options)
    back = theirs.images * shape["sigma"] + shape["mu"]
    assert np.allclose(back, ours.images, atol=1e-4)
    assert np.allclose(swapped.images.transpose(0, 3, 1, 2), theirs.images, atol=1e-4)
    assert np.abs(theirs.images).max() > 1  # in the model's own measure
    assert back.min() >= -1e-6
    assert back.max() <= 1 + 1e-6


def test_what_is_random_is_repeated_by_its_seed():
    options = {"start": "noise", "jitter": 2, "steps": 10}
    one, same, other = (ox.prototype(NETS["relu"], 1, seed=s, **options) for s in (4, 4, 5))
    assert np.array_equal(one.images, same.images)
    assert not np.array_equal(one.start, other.start)
    # The last loss is that of the image given back, not shifted.
    again = ox.prototype(NETS["relu"], 1, one.images, steps=0)
    assert again.loss[0] == pytest.approx(one.loss[-1], abs=1e-5)


def test_blur_and_variation_smooth():
    options = {"start": "noise", "steps": 40, "objective": "logit"}

    def rough(p):
        return np.abs(np.diff(p.images, axis=-1)).mean()

    plain = rough(ox.prototype(NETS["relu"], 1, **options))
    assert rough(ox.prototype(NETS["relu"], 1, blur=1.0, **options)) < 0.7 * plain
    assert rough(ox.prototype(NETS["relu"], 1, tv=20.0, **options)) < 0.7 * plain
