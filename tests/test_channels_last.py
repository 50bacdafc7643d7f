"""A network as Keras exports it, channels last, gives what its channels-first twin gives."""

import numpy as np
import pytest

import onnxexplain as ox
from tests.builders import net, weights

HELD = weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6), c=(4,))
FIRST = net(
    """(float[N,3,8,10] x) => (float[N,4] y) {
        s = Sub(x, mu)  h = Conv<pads=[1,1,1,1], strides=[2,2]>(s, w, b)  a = Relu(h)
        g = GlobalAveragePool(a)  f = Flatten(g)  y = Gemm<transB=1>(f, v, c) }""",
    mu=np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1),
    **HELD,
)
LAST = net(
    """(float[N,8,10,3] x) => (float[N,4] y) {
        s = Sub(x, mu)  t = Transpose<perm=[0,3,1,2]>(s)
        k = Conv<pads=[1,1,1,1], strides=[2,2]>(t, w, b)  h = Transpose<perm=[0,2,3,1]>(k)
        a = Relu(h)  g = ReduceMean<keepdims=0>(a, where)  y = Gemm<transB=1>(g, v, c) }""",
    mu=np.float32([0.1, 0.2, 0.3]),
    where=np.array([1, 2]),
    **HELD,
)


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 8, 10)).astype(np.float32)


def both(x, engine, method="score-propagation"):
    first = ox.explain(FIRST, x, method, target=1, engine=engine)
    last = ox.explain(LAST, x.transpose(0, 2, 3, 1).copy(), method, target=1, engine=engine)
    return first, last


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_final_map(x, engine):
    first, last = both(x, engine)
    assert np.allclose(last.score, first.score, atol=1e-5)
    assert last.heatmap().shape == (2, 8, 10)
    assert np.allclose(last.heatmap(), first.heatmap(), atol=1e-5)
    assert np.allclose(last.heatmap().sum(axis=(1, 2)), last.score, atol=1e-4)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_layers(x, engine):
    first, last = both(x, engine)
    assert last.layers["a"].score.shape == (2, 4, 5, 6)
    for ours, theirs in ((last.layers[n], first.layers[n]) for n in ("x", "s", "a")):
        assert ours.receptive_field == theirs.receptive_field
        assert np.allclose(ours.score_map, theirs.score_map, atol=1e-5)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_cams(x, engine):
    first, last = both(x, engine, "grad-cam")
    assert first.layer == last.layer == "a"
    assert np.allclose(last.attributions["a"], first.attributions["a"], atol=1e-5)
    first, last = both(x, engine, "guided-grad-cam")
    assert np.allclose(
        last.attributions["x"], first.attributions["x"].transpose(0, 2, 3, 1), atol=1e-5
    )
