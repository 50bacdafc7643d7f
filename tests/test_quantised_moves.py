"""Integers that are moved, or read as integers, between the grids of a quantised model."""

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.runtime import run_once
from tests.builders import net
from tests.grids import U8, both_engines, evaluate_as_it_runs, holds, lowered, numbers, x_of
from tests.test_quantised import between

# ----- What moves integers moves what they stand for -----

MOVES = {
    "max-pool": "c = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)",
    "max-pool-padded": "c = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)",
    "reshape": "c = Reshape(a, shape)",
    "flatten": "c = Flatten(a)",
    "transpose": "c = Transpose<perm=[0,3,1,2]>(a)",
    "slice": "c = Slice(a, one, three, one)",
    "gather": "c = Gather<axis=1>(a, index)",
    "expand": "e = Slice(a, nought, one, three) c = Expand(e, full)",
    "tile": "c = Tile(a, times)",
    "split": "e, f = Split<axis=2, num_outputs=2>(a) c = Concat<axis=1>(f, e)",
    "depth-to-space": "c = DepthToSpace<blocksize=2>(a)",
    "concat-with-constant": "c = Concat<axis=1>(a, k)",
    "concat-with-another": "t = Sin(x) b = QuantizeLinear(t, s1, z1) c = Concat<axis=1>(a, b)",
    "pad": "c = Pad(a, pads)",
    "pad-with-value": "c = Pad(a, pads, z2)",
    "relu": "c = Relu(a)",
    "relu-off-nought": "e = Identity(a) c = Relu(e)",
    "clip": "c = Clip(a, z2, high)",
    "max": "c = Max(a, k)",
    "where": "c = Where(on, a, k)",
    "resize-nearest": """c = Resize<mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor">(a, , scales)""",
    "cast": "f = Cast<to=1>(a) g = Mul(f, s1) c = QuantizeLinear(g, s1, z1)",
    "other-grid": "c = Identity(a)",
    "reduce-max": "c = ReduceMax<keepdims=1>(a, one)",
    "top-k": "c, i = TopK<axis=3>(a, two)",
}


@pytest.mark.parametrize("name", MOVES)
def test_moved(name):
    """With zero points of their own and a grid that is read otherwise than it was written."""
    signed = name in ("relu", "relu-off-nought")
    kind = np.int8 if signed else np.uint8
    grid = {
        "s1": 0.02,
        "z1": kind({"relu": 0}.get(name, 100)),
        "s2": 0.05 if name == "other-grid" else 0.02,
        "z2": kind({"other-grid": 7, "clip": 7, "pad-with-value": 7}.get(name, 100)),
    }
    held = {
        "shape": np.array([1, 2, -1]),
        "nought": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "three": np.array([3]),
        "index": np.array([[3, 0], [1, 1]]),
        "full": np.array([1, 4, 4, 4]),
        "times": np.array([1, 2, 1, 1]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 0, 2]),
        "k": numbers(1, 4, 4, 4, kind=np.uint8),
        "high": np.uint8(160),
        "on": np.arange(64).reshape(1, 4, 4, 4) % 3 > 0,
        "scales": [1.0, 1.0, 2.0, 2.0],
        **grid,
    }
    read = "s2, z2" if name == "other-grid" else "s1, z1"
    body = f"""(float[1,4,4,4] x) => (float[a1,b1,c1,d1] y) {{ a = QuantizeLinear(x, s1, z1)
        {MOVES[name]}  d = DequantizeLinear(c, {read})  y = Sin(d) }}"""
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    proto = net(body, **{n: v for n, v in held.items() if n in words})
    x = x_of(1, 4, 4, 4)
    x = np.where(np.abs(x) < 0.03, np.float32(0.047), x)  # off the kink of Relu, once rounded
    rank = len(run_once(proto, {"x": x}, ["y"])[0].shape)
    del proto.graph.output[0].type.tensor_type.shape.dim[rank:]
    holds(proto, {"x": x})
    left = {n.op_type for n in lowered(proto, {"x": x}).nodes}
    assert not left & {"QuantizeLinear", "DequantizeLinear", "Numbers"}


def test_integers_where_they_are_read_as_such():
    """An index, a product of integers: the numbers are given back; nothing goes through them."""
    proto = net(
        """(float[N,6] x) => (float[N,6] y) {
            q = QuantizeLinear(x, s, z)  i = ArgMax<axis=1, keepdims=1>(q)  c = Cast<to=7>(q)
            h = Mul(c, two)  f = Cast<to=1>(h)  j = Cast<to=1>(i)
            d = DequantizeLinear(q, s, z)  p = Add(d, f)  y = Add(p, j) }""",
        two=2,
        **U8,
    )
    x = x_of(2, 6)
    assert np.array_equal(evaluate_as_it_runs(proto, {"x": x}), run_once(proto, {"x": x}, ["y"])[0])
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, x, engine=engine, target=3)
        assert np.abs(e.residual).max() < 1e-5
        assert np.array_equal(np.flatnonzero(e.attributions["x"][0]), [3])
        assert e.attributions["x"][:, 3] == pytest.approx(x[:, 3])


@both_engines
def test_integers_in_a_branch(engine):
    """A branch reads the numbers themselves by the name they have in the file."""
    proto = net(
        """(float[N,4] x) => (float[N,4] y) {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
            t = ReduceMax<keepdims=0>(x)  c = Greater(t, low)
            i = If(c) <then_branch = g1 () => (float[N,4] a) { a = Cast<to=1>(q) },
                       else_branch = g2 () => (float[N,4] b) { b = Cast<to=1>(q) }>
            y = Add(d, i) }""",
        low=-99.0,
        **U8,
    )
    x = x_of(1, 4)
    e = ox.explain(proto, x, engine=engine, target=1)
    assert np.abs(e.residual).max() < 1e-5
    assert e.score == pytest.approx(run_once(proto, {"x": x}, ["y"])[0][:, 1])


@both_engines
def test_an_output_of_integers(engine):
    """Scores that the file gives as integers are explained as what they stand for."""
    proto = net(
        """(float[N,3] x) => (uint8[N,2] y) {
            a = QuantizeLinear(x, s, z)  y = QLinearMatMul(a, s, z, w, s2, i, s3, z3) }""",
        w=numbers(3, 2), s2=0.005, i=np.int8(0), s3=0.02, z3=np.uint8(128), **U8,
    )  # fmt: skip
    x = x_of(2, 3)
    e = ox.explain(proto, x, engine=engine, output="y", target=1)
    raw = run_once(proto, {"x": x}, ["y"])[0]
    assert e.logits == pytest.approx((raw.astype(np.float32) - 128) * np.float32(0.02), abs=1e-6)
    assert np.abs(e.residual).max() < 1e-6


def test_names_are_those_of_the_file():
    """Floats keep theirs; a quantised tensor's stands for floats."""
    proto, feeds = between("conv")
    e = ox.explain(proto, feeds, target=np.ones((1, 4, 6, 6)), layers="all")
    assert set(e.layers) <= {"x", "a", "c", "y"}
    assert e.layers["y"].activation.shape == (1, 4, 6, 6)
