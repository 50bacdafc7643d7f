"""Quantised models: what the file computes, and the derivative with every rounding stepped over."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxexplain as ox
from onnxexplain.graph import lower
from onnxexplain.ops import role_of
from onnxexplain.runtime import evaluate, newest, run_once
from tests.builders import net, weights

both_engines = pytest.mark.parametrize("engine", ["eager", "compiled"])


def lowered(proto, feeds, dtype="float32"):
    sizes = {name: value.shape for name, value in feeds.items()}
    return lower(proto, sizes, run_once, dtype, newest(), role_of)


def frozen(proto, feeds):
    """The lowered model in float64 with each rounding a constant, and each clipped element too."""
    model = lowered(proto, feeds, "float64").proto
    grids = [node for node in model.graph.node if node.op_type == "FakeQuantize"]
    assert grids
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    wide = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()}
    wanted = [t for n in grids for t in (*n.input, n.output[0]) if t not in held]
    found = held | evaluate(model, wide, list(dict.fromkeys(wanted)))
    nodes = []
    for node in model.graph.node:
        if node.op_type != "FakeQuantize":
            nodes.append(node)
            continue
        said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        x, scale, zero = (found[t] for t in node.input)
        shape = [-1 if i == said["axis"] % x.ndim else 1 for i in range(x.ndim)]
        scale, zero = (v.reshape(shape) if v.size > 1 else v.reshape(()) for v in (scale, zero))
        number = np.round(x / scale) + zero.astype(np.float64)
        inside = (number >= said["low"]) & (number <= said["high"])
        parts = {
            "on": inside.astype(np.float64),
            "more": found[node.output[0]] - np.where(inside, x, 0),
        }
        for part, value in parts.items():
            model.graph.initializer.append(numpy_helper.from_array(value, f"{node.name}_{part}"))
        kept = f"{node.name}_kept"
        nodes.append(helper.make_node("Mul", [node.input[0], f"{node.name}_on"], [kept]))
        nodes.append(helper.make_node("Add", [kept, f"{node.name}_more"], [node.output[0]]))
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def numeric(proto, feeds, seed, direction, step=1e-6):
    """The derivative along a direction by central difference, roundings held fixed."""
    model = frozen(proto, feeds)

    def total(sign):
        moved = {n: v + sign * step * direction[n] for n, v in feeds.items() if n in direction}
        return float((seed * evaluate(model, feeds | moved, ["y"])["y"]).sum())

    return (total(1) - total(-1)) / (2 * step)


def holds(proto, feeds):
    """The file's own answer; derivatives by difference, eager, compiled; everything shared out."""
    answers = run_once(proto, feeds, ["y"])[0]
    ours = evaluate_as_it_runs(proto, feeds)
    off = np.abs(ours - answers)
    assert np.mean(off > 1e-6 * np.abs(answers).max()) < 0.05  # the mean of two numbers is a tie
    assert off.max() < 0.0301  # a step
    rng = np.random.default_rng(0)
    seed = rng.standard_normal(answers.shape).astype(np.float32)
    direction = {n: rng.standard_normal(v.shape) for n, v in feeds.items() if v.dtype.kind == "f"}
    wide = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()}
    exact = ox.explain(proto, feeds, "gradient", target=seed, engine="eager", dtype="float64")
    along = sum((exact.attributions[n] * d).sum() for n, d in direction.items())
    assert along == pytest.approx(numeric(proto, wide, seed, direction), rel=1e-5, abs=1e-6)
    assert along
    for engine in ("eager", "compiled"):
        found = ox.explain(proto, feeds, "gradient", target=seed, engine=engine)
        for name, value in exact.attributions.items():
            size = max(1, np.abs(value).max())
            assert np.allclose(found.attributions[name], value, atol=2e-5 * size)
        e = ox.explain(proto, feeds, target=seed, engine=engine)
        assert np.abs(e.residual).max() < 1e-5
    return exact


def evaluate_as_it_runs(proto, feeds):
    return run_once(lowered(proto, feeds).proto, feeds, ["y"])[0]


def x_of(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numbers(*shape, seed=0, kind=np.int8):
    info = np.iinfo(kind)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(kind)


# ----- To a grid and back -----

U8 = {"s": 0.03, "z": np.uint8(120)}
I8 = {"s": 0.03, "z": np.int8(-3)}


@pytest.mark.parametrize("grid", [U8, I8], ids=["uint8", "int8"])
@pytest.mark.parametrize("opset", [10, 13, 18, 21])
def test_to_a_grid_and_back(grid, opset):
    proto = net(
        """(float[N,6] x) => (float[N,4] y) {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = MatMul(d, w) }""",
        opset=opset,
        **grid,
        **weights(1, w=(6, 4)),
    )
    x = x_of(3, 6) * 2
    holds(proto, {"x": x})
    e = ox.explain(proto, x, "gradient", target=1)
    number = np.round(x / np.float32(0.03)) + int(grid["z"])
    info = np.iinfo(grid["z"].dtype)
    inside = (number >= info.min) & (number <= info.max)
    assert 0 < inside.mean() < 1
    column = numpy_helper.to_array(proto.graph.initializer[-1])[:, 1]
    assert np.allclose(e.attributions["x"], np.where(inside, column, 0))


@pytest.mark.parametrize(
    ("kind", "domain"),
    [(kind, "") for kind in ("int16", "uint16", "int4", "uint4")]
    + [(kind, "com.microsoft.") for kind in ("int16", "uint16", "int8")],
)
def test_other_widths(kind, domain):
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    step = {"16": 1e-4, "t8": 0.03, "t4": 0.3}[kind[-2:]]
    body = """(float[N,6] x) => (float[N,4] y) {{
        q = {0}QuantizeLinear(x, s, z)  d = {0}DequantizeLinear(q, s, z)  y = MatMul(d, w) }}"""
    proto = net(
        body.format(domain),
        opset=17 if domain else 21,
        domain=domain[:-1],
        s=step,
        z=np.array(3, dtype),
        **weights(1, w=(6, 4)),
    )
    proto.ir_version = 10
    holds(proto, {"x": x_of(2, 6) * 2})


@pytest.mark.parametrize("axis", [1, -1, 2])
def test_by_channel(axis):
    many = [5, 3, 4][axis] if axis != -1 else 4
    proto = net(
        f"""(float[5,3,4] x) => (float[5,3,4] y) {{
            q = QuantizeLinear<axis={axis}>(x, s, z)  d = DequantizeLinear<axis={axis}>(q, s, z)
            y = Mul(d, w) }}""",
        s=np.linspace(0.01, 0.03, many).astype(np.float32),
        z=np.arange(many).astype(np.int8),
        **weights(1, w=(3, 4)),
    )
    holds(proto, {"x": x_of(5, 3, 4) * 2})


def test_by_block():
    proto = net(
        """(float[2,6] x) => (float[2,4] y) {
            q = QuantizeLinear<axis=1, block_size=4>(x, s, z)
            d = DequantizeLinear<axis=1, block_size=4>(q, s, z)  y = MatMul(d, w) }""",
        opset=21,
        s=np.array([[0.01, 0.02], [0.03, 0.04]], np.float32),
        z=np.array([[1, 2], [3, 4]], np.int8),
        **weights(1, w=(6, 4)),
    )
    x = x_of(2, 6) * 2
    e = ox.explain(proto, x, "gradient", target=np.ones((2, 4)))
    steps = np.repeat([[0.01, 0.02], [0.03, 0.04]], 4, 1)[:, :6]
    zeros = np.repeat([[1, 2], [3, 4]], 4, 1)[:, :6]
    inside = np.abs(np.round(x / steps) + zeros + 0.5) <= 127.5
    w = numpy_helper.to_array(proto.graph.initializer[-1]).sum(1)
    assert 0 < inside.mean() < 1
    assert np.allclose(e.attributions["x"], np.where(inside, w, 0), atol=1e-6)
    for engine in ("eager", "compiled"):
        shared = ox.explain(proto, x, target=np.ones((2, 4)), engine=engine)
        assert np.abs(shared.residual).max() < 1e-6


def test_a_grid_that_is_found():
    """The grid of DynamicQuantizeLinear is found from the data, and counts as given."""
    proto = net(
        """(float[1,6] x) => (float[1,4] y) {
            q, s, z = DynamicQuantizeLinear(x)
            d = DequantizeLinear(q, s, z)  y = MatMul(d, w) }""",
        **weights(1, w=(6, 4)),
    )
    holds(proto, {"x": x_of(1, 6)})
    w = numpy_helper.to_array(proto.graph.initializer[-1])
    gradient = ox.explain(proto, x_of(1, 6), "gradient", target=2).attributions["x"]
    assert np.allclose(gradient, w[:, 2])


@both_engines
def test_the_last_grid_has_no_ends(engine):
    """A score beyond what its grid was calibrated for is explained as well."""
    proto = net(
        """(float[N,3] x) => (float[N,2] y) {
            m = MatMul(x, w)  q = QuantizeLinear(m, s, z)  y = DequantizeLinear(q, s, z) }""",
        s=0.01,
        z=np.int8(0),
        w=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]],
    )
    x = np.array([[5, 0.1, 0.2]], np.float32)
    e = ox.explain(proto, x, engine=engine, target=0)
    assert e.score.tolist() == pytest.approx([1.27])
    assert np.allclose(e.attributions["x"], [[5, 0, 0.2]])
    assert e.constant == pytest.approx([1.27 - 5.2])


@both_engines
def test_a_relu_that_the_quantiser_took_away(engine):
    """A grid that begins at 0 cuts like a ReLU: what rounds to 0 from below is off."""
    body = """(float[N,2] x) => (float[N,1] y) {{
        h = Add(x, b)  {}  q = QuantizeLinear(r, s, z)  d = DequantizeLinear(q, s, z)
        y = MatMul(d, w) }}"""
    held = {"b": [0.0, 0.0], "s": 0.1, "z": np.uint8(0), "w": [[1.0], [2.0]]}
    x = np.array([[-0.02, 0.3]], np.float32)
    with_relu = net(body.format("r = Relu(h)"), **held)
    without = net(body.format("").replace("(r, s, z)", "(h, s, z)"), **held)
    for proto in (with_relu, without):
        e = ox.explain(proto, x, "gradient", engine=engine, target=0)
        assert e.attributions["x"].tolist() == [[0.0, 2.0]]
    guided = ox.explain(without, x, "guided-backprop", engine=engine, target=0)
    assert guided.attributions["x"].tolist() == [[0.0, 2.0]]


# ----- Operators between grids -----

GRIDS = {
    "s1": 0.02, "z1": np.uint8(128), "s2": 0.015, "z2": np.uint8(100),
    "s3": 0.03, "z3": np.uint8(7), "i1": np.int8(3), "i2": np.int8(-9), "i3": np.int8(-50),
}  # fmt: skip
MICROSOFT = "com.microsoft"
Q = "a = QuantizeLinear(x, s1, z1)"
D = "y = DequantizeLinear(c, s3, z3)"
IMAGE = "(float[1,4,6,6] x) => (float[1,n,h,w] y)"

BETWEEN = {
    "conv": f"""{IMAGE} {{ {Q}
        c = QLinearConv<pads=[1,1,1,1]>(a, s1, z1, w, sw, zw, s3, z3, b)  {D} }}""",
    "conv-strided": f"""{IMAGE} {{ {Q}
        c = QLinearConv<strides=[2,2], group=2>(a, s1, z1, wg, sw, zw, s3, z3)  {D} }}""",
    "conv-channels-last": f"""(float[1,6,6,4] x) => (float[1,h,w,n] y) {{ {Q}
        c = com.microsoft.QLinearConv<pads=[1,1,1,1], channels_last=1>
            (a, s1, z1, w, sw, zw, s3, z3, b)  {D} }}""",
    "matmul": f"""(float[2,6] x) => (float[2,5] y) {{ {Q}
        c = QLinearMatMul(a, s1, z1, m, s2, i2, s3, z3)  {D} }}""",
    "matmul-by-column": f"""(float[2,6] x) => (float[2,5] y) {{ {Q}
        c = QLinearMatMul(a, s1, z1, m, sm, zm, s3, z3)  {D} }}""",
    "matmul-of-two": f"""(float[1,2,6] x) => (float[1,2,2] y) {{ {Q}
        t = Transpose<perm=[0,2,1]>(x)  o = QuantizeLinear(t, s2, z2)
        c = QLinearMatMul(a, s1, z1, o, s2, z2, s3, z3)  {D} }}""",
    "gemm": f"""(float[2,6] x) => (float[2,5] y) {{ {Q}
        c = com.microsoft.QGemm<alpha=0.5>(a, s1, z1, m, s2, i2, bm, s3, z3)  {D} }}""",
    "gemm-to-floats": f"""(float[2,6] x) => (float[2,5] y) {{ {Q}
        y = com.microsoft.QGemm<transB=1>(a, s1, z1, mt, sm, zm, bm) }}""",
    "add": f"""(float[2,6] x) => (float[2,6] y) {{ {Q}
        t = Sin(x)  o = QuantizeLinear(t, s2, z2)
        c = com.microsoft.QLinearAdd(a, s1, z1, o, s2, z2, s3, z3)  {D} }}""",
    "mul": f"""(float[2,6] x) => (float[2,6] y) {{ {Q}
        t = Sin(x)  o = QuantizeLinear(t, s2, z2)
        c = com.microsoft.QLinearMul(a, s1, z1, o, s2, z2, s3, z3)  {D} }}""",
    "mul-by-constant": f"""(float[2,6] x) => (float[2,6] y) {{ {Q}
        c = com.microsoft.QLinearMul(a, s1, z1, k, s2, z2, s3, z3)  {D} }}""",
    "concat": f"""(float[2,6] x) => (float[2,12] y) {{ {Q}
        t = Sin(x)  o = QuantizeLinear(t, s2, z2)
        c = com.microsoft.QLinearConcat<axis=1>(s3, z3, a, s1, z1, o, s2, z2)  {D} }}""",
    "where": f"""(float[2,6] x) => (float[2,6] y) {{ {Q}
        t = Sin(x)  o = QuantizeLinear(t, s2, z2)
        c = com.microsoft.QLinearWhere(on, a, s1, z1, o, s2, z2, s3, z3)  {D} }}""",
    "sigmoid": f"""(float[2,6] x) => (float[2,6] y) {{ {Q}
        c = com.microsoft.QLinearSigmoid(a, s1, z1, s3, z3)  {D} }}""",
    "leaky-relu": f"""(float[2,6] x) => (float[2,6] y) {{ {Q}
        c = com.microsoft.QLinearLeakyRelu<alpha=0.3>(a, s1, z1, s3, z3)  {D} }}""",
    "softmax": f"""(float[2,3,4] x) => (float[2,3,4] y) {{ {Q}
        c = com.microsoft.QLinearSoftmax<axis=1, opset=13>(a, s1, z1, sp, z0)
        y = DequantizeLinear(c, sp, z0) }}""",
    "softmax-of-old": f"""(float[2,3,4] x) => (float[2,3,4] y) {{ {Q}
        c = com.microsoft.QLinearSoftmax<axis=1, opset=12>(a, s1, z1, sp, z0)
        y = DequantizeLinear(c, sp, z0) }}""",
    "average-pool": f"""{IMAGE} {{ {Q}
        c = com.microsoft.QLinearAveragePool<kernel_shape=[3,3], pads=[1,1,0,0]>
            (a, s1, z1, s3, z3)  {D} }}""",
    "average-pool-channels-last": f"""(float[1,6,6,4] x) => (float[1,h,w,n] y) {{ {Q}
        c = com.microsoft.QLinearAveragePool<kernel_shape=[3,3], channels_last=1>
            (a, s1, z1, s3, z3)  {D} }}""",
    "global-average-pool": f"""{IMAGE} {{ {Q}
        c = com.microsoft.QLinearGlobalAveragePool(a, s1, z1, s3, z3)  {D} }}""",
    "global-average-pool-channels-last": f"""(float[1,6,6,4] x) => (float[1,h,w,n] y) {{ {Q}
        c = com.microsoft.QLinearGlobalAveragePool<channels_last=1>(a, s1, z1, s3, z3)  {D} }}""",
    "conv-integer": f"""{IMAGE} {{ {Q}
        i = ConvInteger<pads=[1,1,1,1]>(a, w, z1)  f = Cast<to=1>(i)  r = Mul(s1, s2)
        y = Mul(f, r) }}""",
    "conv-integer-found": f"""{IMAGE} {{ a, t, z = DynamicQuantizeLinear(x)
        i = ConvInteger(a, w, z, i1)  f = Cast<to=1>(i)  r = Mul(t, s2)  y = Mul(f, r) }}""",
    "matmul-integer-found": """(float[2,6] x) => (float[2,5] y) {
        a, t, z = DynamicQuantizeLinear(x)
        i = MatMulInteger(a, m, z, zm)  f = Cast<to=1>(i)  r = Mul(t, s2)  y = Mul(f, r) }""",
    "matmul-integer-unscaled": f"""(float[2,6] x) => (float[2,5] y) {{ {Q}
        i = MatMulInteger(a, m, z1)  f = Cast<to=1>(i)  y = Mul(f, s2) }}""",
    "matmul-integer-of-two": """(float[1,2,6] x) => (float[1,2,2] y) {
        a, t, z = DynamicQuantizeLinear(x)  v = Transpose<perm=[0,2,1]>(x)
        o, u, w0 = DynamicQuantizeLinear(v)
        i = MatMulInteger(a, o, z, w0)  f = Cast<to=1>(i)  r = Mul(t, u)  y = Mul(f, r) }""",
    "matmul-integer-to-float": f"""(float[2,6] x) => (float[2,5] y) {{ {Q}
        y = com.microsoft.MatMulIntegerToFloat(a, m, s1, sm, z1, zm, bf) }}""",
    "dynamic-matmul": """(float[2,6] x) => (float[2,5] y) {
        y = com.microsoft.DynamicQuantizeMatMul(x, m, sm, zm, bf) }""",
}


def between(name):
    held = {
        "w": numbers(4, 4, 3, 3), "wg": numbers(4, 2, 3, 3), "m": numbers(6, 5),
        "sw": np.linspace(0.001, 0.003, 4).astype(np.float32), "zw": np.zeros(4, np.int8),
        "sm": np.linspace(0.001, 0.004, 5).astype(np.float32), "zm": np.arange(5).astype(np.int8),
        "b": np.array([100, -2000, 30, 0], np.int32), "bm": np.arange(5).astype(np.int32) * 99,
        "mt": numbers(5, 6), "k": numbers(2, 6, kind=np.uint8), "bf": np.ones(5, np.float32),
        "sp": 1 / 256, "z0": np.uint8(0), "on": np.arange(12).reshape(2, 6) % 3 > 0, **GRIDS,
    }  # fmt: skip
    body = BETWEEN[name]
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    domain = MICROSOFT if MICROSOFT in body else ""
    proto = net(body, domain=domain, **{n: v for n, v in held.items() if n in words})
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return proto, {"x": x_of(*shape)}


@pytest.mark.parametrize("name", BETWEEN)
def test_between_grids(name):
    holds(*between(name))


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
