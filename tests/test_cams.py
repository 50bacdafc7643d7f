"""Laws of the CAMs and of the rules that guide a gradient."""

import numpy as np
import pytest

import onnxexplain as ox
from tests.builders import net, weights

GAP = net(
    """(float[N,3,8,8] x) => (float[N,4] y) {
        h = Conv<pads=[1,1,1,1]>(x, w, b)  a = Relu(h)
        g = GlobalAveragePool(a)  f = Flatten(g)  y = Gemm<transB=1>(f, v, c) }""",
    **weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6), c=(4,)),
)
POOLED_BY_1X1 = net(
    """(float[N,3,8,8] x) => (float[N,4,1,1] y) {
        h = Conv<pads=[1,1,1,1]>(x, w, b)  a = Relu(h)
        s = Conv(a, v)  y = GlobalAveragePool(s) }""",
    **weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6, 1, 1)),
)
DEEP = net(
    """(float[N,3,8,8] x) => (float[N,4] y) {
        h = Conv<pads=[1,1,1,1]>(x, w, b)  a = Relu(h)
        k = Conv<pads=[1,1,1,1]>(a, w2, b2)  r = Relu(k)
        g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm<transB=1>(f, v, c) }""",
    **weights(1, w=(6, 3, 3, 3), b=(6,), w2=(6, 6, 3, 3), b2=(6,), v=(4, 6), c=(4,)),
)

engines = pytest.mark.parametrize("engine", ["eager", "compiled"])


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 8, 8)).astype(np.float32)


@engines
def test_cam_means_to_the_score(x, engine):
    e = ox.explain(GAP, x, "cam", targets="all", engine=engine)
    assert e.layer == "a"
    bias = weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6), c=(4,))["c"]
    means = e.attributions["a"].mean(axis=(2, 3, 4))
    assert np.allclose(means + bias[:, None], e.score, atol=1e-5)


@engines
def test_cam_is_grad_cam_up_to_scale(x, engine):
    cam = ox.explain(GAP, x, "cam", target=1, engine=engine).attributions["a"]
    grad_cam = ox.explain(GAP, x, "grad-cam", target=1, relu=False, engine=engine)
    assert np.allclose(cam, 64 * grad_cam.attributions["a"], atol=1e-4)


@engines
def test_cam_is_hires_cam(x, engine):
    """The layer's maps weighed by their derivative place by place, where all places weigh alike."""
    layer = ox.explain(GAP, x, "gradient", target=1, layers=["a"], engine=engine).layers["a"]
    hires = (layer.score * layer.activation).sum(1, keepdims=True)
    cam = ox.explain(GAP, x, "cam", target=1, engine=engine).attributions["a"]
    assert np.allclose(64 * hires, cam, atol=1e-4)
    assert np.abs(cam).max() > 0.1


@engines
def test_cam_before_a_1x1_convolution(x, engine):
    e = ox.explain(POOLED_BY_1X1, x, "cam", layer="a", target=2, engine=engine)
    assert np.allclose(e.attributions["a"].mean(axis=(1, 2, 3)), e.score, atol=1e-5)


@engines
def test_cam_of_scores_that_have_positions(x, engine):
    """SqueezeNet's, before its mean: the sum over positions stands for it."""
    whole = ox.explain(POOLED_BY_1X1, x, "cam", layer="a", target=2, engine=engine)
    e = ox.explain(POOLED_BY_1X1, x, "cam", layer="a", output="s", target=2, engine=engine)
    assert np.allclose(e.score, 64 * whole.score, rtol=1e-4)
    assert np.allclose(e.attributions["a"], 64 * whole.attributions["a"], rtol=1e-4, atol=1e-4)


@engines
def test_top_k_of_all_is_cam(x, engine):
    cam = ox.explain(GAP, x, "cam", target=1, engine=engine).attributions["a"]
    every = ox.explain(GAP, x, "cam-topk", k=20, target=1, engine=engine).attributions["a"]
    one = ox.explain(GAP, x, "cam-topk", k=1, target=1, engine=engine).attributions["a"]
    assert np.allclose(cam, every)
    activations = ox.explain(GAP, x, target=1, layers="a", engine=engine).layers["a"].activation
    v = weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6), c=(4,))["v"]
    for n in range(2):
        k = activations[n].mean(axis=(1, 2)).argmax()
        assert np.allclose(one[n, 0], v[1, k] * activations[n, k], atol=1e-5)


def test_cam_needs_its_head(x):
    with pytest.raises(ox.MethodError, match=r"Relu \(node `.*`\) follows `h`"):
        ox.explain(GAP, x, "cam", layer="h", target=0)


@engines
def test_guided_is_zero_where_the_gradient_is_held_back(x, engine):
    """By hand: the derivative behind each ReLU, clamped before the gate."""
    e = ox.explain(DEEP, x, "guided-backprop", target=0, layers=["r", "a"], engine=engine)
    guided_r = np.maximum(e.layers["r"].score, 0) * (e.layers["r"].activation > 0)
    held = weights(1, w=(6, 3, 3, 3), b=(6,), w2=(6, 6, 3, 3), b2=(6,), v=(4, 6), c=(4,))
    padded = np.pad(guided_r, ((0, 0), (0, 0), (1, 1), (1, 1)))
    back = sum(
        np.einsum(
            "nohw,oc->nchw", padded[:, :, 2 - i : 10 - i, 2 - j : 10 - j], held["w2"][:, :, i, j]
        )
        for i in range(3)
        for j in range(3)
    )
    assert np.allclose(e.layers["a"].score, back, atol=1e-5)


@engines
def test_deconvnet_ignores_the_gate(x, engine):
    """A ReLU that is off hands on what is positive all the same."""
    e = ox.explain(DEEP, x, "deconvnet", target=0, layers=["r", "k"], engine=engine)
    assert np.allclose(e.layers["k"].score, np.maximum(e.layers["r"].score, 0), atol=1e-6)


@engines
def test_guided_grad_cam_is_their_product(x, engine):
    both = ox.explain(DEEP, x, "guided-grad-cam", target=3, engine=engine).attributions["x"]
    sharp = ox.explain(DEEP, x, "guided-backprop", target=3, engine=engine).attributions["x"]
    cam = ox.explain(DEEP, x, "grad-cam", target=3, engine=engine).heatmap()
    assert np.allclose(both, sharp * cam[:, None], atol=1e-6)
