"""Files written for so many samples at once: each sample has totals of its own all the same."""

import numpy as np
import pytest

import onnxexplain as ox
from tests.builders import net, weights

BODY = """(float[{n},2,6] x) => (float[{n},4] y) {{
    t = Transpose<perm=[1,0,2]>(x)  Y, H = GRU<hidden_size=3>(t, W, R, B)
    r = Reshape(Y, {shape})  m = ReduceMean<keepdims=0>(r, first)  a = Tanh(m)
    y = Gemm<transB=1>(a, v, c) }}"""


def gru(n, shape):
    held = weights(2, W=(1, 9, 6), R=(1, 9, 3), B=(1, 18), v=(4, 3), c=(4,))
    return net(BODY.format(n=n, shape="shape"), shape=shape, first=[0], **held)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("samples", [2, 3])
def test_totals_are_each_samples_own(engine, samples):
    """Two samples of two steps: an axis of steps is as long as the batch by chance."""
    x = np.random.default_rng(0).standard_normal((samples, 2, 6)).astype(np.float32)
    made = ox.explain(gru(samples, [2, samples, 3]), x, targets="all", engine=engine)
    free = ox.explain(gru("N", [2, -1, 3]), x, targets="all", engine=engine)
    assert np.allclose(made.score, free.score, atol=1e-6)
    assert np.abs(made.residual).max() < 1e-6
    assert np.allclose(made.constant, free.constant, atol=1e-6)
    for name, total in free.constants.items():
        assert np.allclose(made.constants[name], total, atol=1e-6), name
    assert np.allclose(made.attributions["x"], free.attributions["x"], atol=1e-6)
    assert not np.allclose(made.constant[:, 0], made.constant[:, 1], atol=1e-4)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_state_made_for_two(engine):
    """Alone, a sample would be broadcast to two rows by the state that the file begins with."""
    held = weights(3, w=(6, 3), u=(3, 3), v=(3, 4), c=(4,))
    proto = net(
        """(float[2,6] x) => (float[2,4] y) {
        a = MatMul(x, w)  b = MatMul(begin, u)  s = Add(a, b)  h = Tanh(s)  y = Gemm(h, v, c) }""",
        begin=np.random.default_rng(4).standard_normal((2, 3)),
        **held,
    )
    x = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    e = ox.explain(proto, x, target=1, engine=engine)
    assert np.abs(e.residual).max() < 1e-6
    assert e.attributions["x"].any(axis=1).all()


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_scan_with_two_outputs(engine):
    """Its last state has the batch axis first, its rows have the steps there."""
    proto = net(
        """(float[2,5,6] x) => (float[2,4] y) {
        t = Transpose<perm=[1,0,2]>(x)
        last, rows = Scan<num_scan_inputs=1, body = step (float[2,3] h, float[2,6] z)
            => (float[2,3] n, float[2,3] o)
            { a = MatMul(z, w)  b = MatMul(h, u)  s = Add(a, b)  k = Add(s, d)  n = Tanh(k)
              o = Identity(n) }>(begin, t)
        m = ReduceMean<keepdims=0>(rows, first)  q = Add(last, m)  y = Gemm(q, v, c) }""",
        begin=np.zeros((2, 3)),
        first=[0],
        **weights(5, w=(6, 3), u=(3, 3), d=(3,), v=(3, 4), c=(4,)),
    )
    x = np.random.default_rng(1).standard_normal((2, 5, 6)).astype(np.float32)
    e = ox.explain(proto, x, target=1, engine=engine)
    assert np.abs(e.residual).max() < 1e-6
    swapped = ox.explain(proto, x[::-1].copy(), target=1, engine=engine)
    for name, total in e.constants.items():
        assert np.allclose(swapped.constants[name][::-1], total, atol=1e-6), name
