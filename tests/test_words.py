"""The words that move elements: NumPy, the strict array API and ONNX nodes say the same."""

import array_api_strict
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxexplain.runtime import Device, Session
from onnxexplain.tensor import Arrays, Tape

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
CUTS = [
    (slice(None), slice(1, 3)),
    (slice(2, None, -1), slice(None, None, 2), slice(None, None, -2)),
    (slice(0, 1),),
    (slice(None), slice(3, 0, -2), slice(1, 2)),
]
INDEX = np.array([[0, 2], [-1, 1]])
PLACES = np.array([[0, 7, 7], [59, 3, 0]])


def everywhere(say, *arrays):
    """Return what NumPy makes of ``say(xp, *arrays)``; the others must make the same."""
    plain = say(Arrays(np), *arrays)
    strict = say(Arrays(array_api_strict), *map(array_api_strict.asarray, arrays))
    tape = Tape("p/", blocked=True)
    given = [tape.tensor(f"x{i}", v.shape, v.dtype) for i, v in enumerate(arrays)]
    symbol = say(tape, *given)
    name = tape.written(symbol)
    infos = [info(f"x{i}", v) for i, v in enumerate(arrays)]
    held = [numpy_helper.from_array(v, n) for n, v in tape.initializers.items()]
    graph = helper.make_graph(tape.nodes, "words", infos, [info(name, plain)], held)
    stamp = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=stamp, ir_version=8)
    feeds = {f"x{i}": v for i, v in enumerate(arrays)}
    (ran,) = Session(model, Device.named("cpu")).run(feeds, [name])
    for other in (np.asarray(strict), ran):
        assert other.dtype == plain.dtype
        assert np.allclose(other, plain, rtol=1e-6, atol=1e-6)
    assert symbol.shape == plain.shape == ran.shape
    return plain


def info(name, array):
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


@pytest.mark.parametrize("cuts", CUTS)
def test_cut(cuts):
    part = everywhere(lambda xp, x: xp.cut(x, cuts), X)
    assert np.array_equal(part, X[cuts])
    back = everywhere(lambda xp, g, x: xp.uncut_like(g, x, cuts), part, X)
    expected = np.zeros_like(X)
    expected[cuts] = part
    assert np.array_equal(back, expected)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_take(axis):
    taken = everywhere(lambda xp, x, i: xp.take(x, i, axis), X, INDEX)
    assert np.array_equal(taken, np.take(X, INDEX, axis))
    back = everywhere(lambda xp, g, i, x: xp.untake_like(g, i, x, axis), taken, INDEX, X)
    again = everywhere(
        lambda xp, g, x: xp.untake_like(g, xp.indices(INDEX.tolist(), x), x, axis), taken, X
    )
    assert np.allclose(back, again)
    times = np.bincount(INDEX.ravel() % X.shape[axis], minlength=X.shape[axis])
    column = times.reshape([-1 if a == axis % 3 else 1 for a in range(3)])
    assert np.allclose(back, X * column, atol=1e-6)


def test_pick_and_put():
    picked = everywhere(lambda xp, x, i: xp.pick(x, i), X, PLACES)
    assert np.array_equal(picked, X.ravel()[PLACES])
    back = everywhere(lambda xp, g, i, x: xp.put_like(g, i, x), picked, PLACES, X)
    expected = np.zeros(X.size, np.float32)
    np.add.at(expected, PLACES.ravel(), picked.ravel())
    assert np.allclose(back.ravel(), expected)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_sum(exclusive, reverse):
    total = everywhere(
        lambda xp, x: xp.cumulative_sum(x, axis=1, exclusive=exclusive, reverse=reverse), X
    )
    turned = X[:, ::-1] if reverse else X
    expected = np.cumsum(turned, axis=1) - (turned if exclusive else 0)
    assert np.allclose(total, expected[:, ::-1] if reverse else expected, atol=1e-6)


def test_prod():
    assert np.allclose(
        everywhere(lambda xp, x: xp.prod(x, axis=(0, 2), keepdims=True), X),
        X.prod((0, 2), keepdims=True),
    )


def test_choices():
    def say(xp, x):
        chosen = xp.logical_and(xp.logical_not(xp.equal(x, 0.5)), x > 0)
        chosen = xp.logical_or(chosen, x < -1)
        return xp.where(chosen, xp.floor(x), xp.round(x))

    assert np.array_equal(
        everywhere(say, X), np.where((X > 0) | (X < -1), np.floor(X), np.round(X))
    )


def test_whole_numbers():
    found = everywhere(lambda xp, x: xp.to_int(xp.floor(x)) * 4 + 1, X)
    assert np.array_equal(found, np.floor(X).astype(np.int64) * 4 + 1)


def test_shapes_and_constants():
    def say(xp, x):
        wide = xp.broadcast_to(xp.reshape(x, (3, 1, 20)), (3, 2, 20))
        return wide * xp.constant([[1.0], [2.0]], x)

    found = everywhere(say, X)
    assert np.array_equal(found[:, 1], 2 * X.reshape(3, 20))
