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
