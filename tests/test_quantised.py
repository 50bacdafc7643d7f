"""Quantised models: what the file computes, and the derivative with every rounding stepped over."""

import json

import array_api_strict
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import onnxexplain as ox
from onnxexplain.cli import run
from onnxexplain.runtime import evaluate, run_once
from tests.builders import net, weights
from tests.grids import I8, U8, both_engines, evaluate_as_it_runs, holds, numbers, x_of
from tests.test_array_api_strict import answers

# ----- To a grid and back -----


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


@pytest.mark.parametrize(
    "name", ["conv", "conv-strided", "conv-integer", "matmul", "matmul-by-column"]
)
def test_whole_bytes(name):
    """Weights of all eight bits, against ONNX's reference, whose sums never overflow."""
    proto, feeds = between(name)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1:
            value = numbers(*tensor.dims, whole=True)
            assert np.abs(value.astype(int)).max() > 100
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    theirs = evaluate(proto, feeds, ["y"])["y"]
    off = np.abs(evaluate_as_it_runs(proto, feeds) - theirs)
    assert np.mean(off > 1e-6 * np.abs(theirs).max()) < 0.05  # half-way, to either side
    assert off.max() < 0.0301  # a step


@both_engines
def test_probabilities_on_a_grid(engine):
    """A softmax at the end is stepped over, and so are the grids around it."""
    body = """(float[N,6] x) => (float[N,5] y) {{
        a = QuantizeLinear(x, s1, z1)  c = QLinearMatMul(a, s1, z1, m, s2, i2, s3, z3)
        {}  y = DequantizeLinear(p, sp, z0) }}"""
    held = {"m": numbers(6, 5), "sp": 1 / 256, "z0": np.uint8(0)} | {
        name: GRIDS[name] for name in ("s1", "z1", "s2", "i2", "s3", "z3")
    }
    x = x_of(2, 6)
    plain = net(body.format("p = Identity(c)").replace("(p, sp, z0)", "(c, s3, z3)"), **held)
    scores = ox.explain(plain, x, engine=engine, target=1)
    for end in (
        "d = DequantizeLinear(c, s3, z3)  t = Softmax(d)  p = QuantizeLinear(t, sp, z0)",
        "p = com.microsoft.QLinearSoftmax<axis=1, opset=13>(c, s3, z3, sp, z0)",
    ):
        proto = net(body.format(end), domain=MICROSOFT, **held)
        e = ox.explain(proto, x, engine=engine, target=1)
        assert e.output == ("d" if "Softmax(d)" in end else "c")
        assert np.allclose(e.logits, scores.logits, atol=1e-6)
        assert np.allclose(e.attributions["x"], scores.attributions["x"], atol=1e-6)


# ----- By the standard's own words -----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("grid", ["tensor", "channel", "block", "found"])
def test_under_array_api_strict(grid, dtype):
    """Nothing but the array-API standard is said, and every result keeps the dtype."""
    said = {"channel": "<axis=1>", "block": "<axis=1, block_size=2>"}.get(grid, "")
    many = {"channel": (6,), "block": (1, 3)}.get(grid, ())
    body = f"q = QuantizeLinear{said}(x, s, z)  d = DequantizeLinear{said}(q, s, z)"
    held = {"s": np.full(many, 0.01, np.float32), "z": np.zeros(many, np.int8)}
    if grid == "found":
        body, held = "q, s, z = DynamicQuantizeLinear(x)  d = DequantizeLinear(q, s, z)", {}
    proto = net(
        f"(float[1,6] x) => (float[1,4] y) {{ {body}  t = Tanh(d)  y = MatMul(t, w) }}",
        opset=21,
        **held,
        **weights(1, w=(6, 4)),
    )
    found = answers(proto, {"x": x_of(1, 6)}, dtype)
    for key, value in found.items():
        if key.startswith(("attribution", "score/", "constant/")):
            assert value.dtype == getattr(array_api_strict, dtype), key
    totals = [v for key, v in found.items() if key.startswith(("total/", "constants/"))]
    gap = float(found["score"][0]) - sum(float(v[0]) for v in totals)
    assert abs(gap) < (1e-5 if dtype == "float32" else 1e-12)


# ----- A runtime that overflows -----


HALVES = {"w": np.random.default_rng(0).standard_normal((6, 4)).astype(np.float16)}


@pytest.fixture
def rounded():
    return net(
        """(float[N,6] x) => (float[N,4] y) {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = MatMul(d, w) }""",
        opset=13,
        **U8,
        **weights(1, w=(6, 4)),
    )


def overflowing(always):
    """Run a model as on a processor whose sums of products of bytes overflow."""

    def answer(*args, wide=False, **said):
        lost = 0 if wide and not always else 1
        return [found - found.dtype.type(lost) for found in run_once(*args, wide=wide, **said)]

    return answer


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_runtime_that_overflows_is_told_of(rounded, engine, monkeypatch):
    monkeypatch.setattr("onnxexplain.prepared.run_once", overflowing(always=False))
    x = x_of(1, 6)
    with pytest.warns(ox.RuntimeDiffers, match="session.x64quantprecision=1"):
        e = ox.explain(rounded, x, target=1, engine=engine)
    assert e.difference < 1e-6
    assert e.runtime_difference > 0.05
    assert e.score == pytest.approx(run_once(rounded, {"x": x}, ["y"])[0][:, 1])


def test_what_differs_for_another_reason_is_refused(rounded, monkeypatch):
    monkeypatch.setattr("onnxexplain.prepared.run_once", overflowing(always=True))
    with pytest.raises(ox.ModelError, match="answers differently"):
        ox.explain(rounded, x_of(1, 6), target=1)


def test_what_holds_no_bytes_is_refused(monkeypatch):
    """Nothing of it can overflow: it is the lowering that would be wrong."""
    plain = net("(float16[N,6] x) => (float16[N,4] y) { y = MatMul(x, w) }", **HALVES)
    monkeypatch.setattr("onnxexplain.prepared.run_once", overflowing(always=False))
    with pytest.raises(ox.ModelError, match="answers differently"):
        ox.explain(plain, x_of(1, 6).astype(np.float16), target=1)


def test_the_callers_own_options_are_left_alone(rounded, monkeypatch):
    monkeypatch.setattr("onnxexplain.prepared.run_once", overflowing(always=False))
    with pytest.raises(ox.ModelError, match="answers differently"):
        ox.explain(rounded, x_of(1, 6), target=1, session_options=onnxruntime.SessionOptions())


def test_the_command_line_says_it_in_a_line(rounded, tmp_path, monkeypatch, capsys):
    onnx.save(rounded, tmp_path / "bytes.onnx")
    np.save(tmp_path / "x.npy", x_of(1, 6))
    monkeypatch.setattr("onnxexplain.prepared.run_once", overflowing(always=False))
    asked = ["explain", str(tmp_path / "bytes.onnx"), str(tmp_path / "x.npy"), "-o", str(tmp_path)]
    assert run([*asked, "--json"]) == 0
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("onnxexplain: ")
    assert "explained is what the file says" in line
    assert json.loads((tmp_path / "x.json").read_text())["runtime_difference"] > 0.05
    assert run([*asked, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
