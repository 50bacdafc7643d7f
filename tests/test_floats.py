"""Floats of every width: computed in one on the way back, maps in float32."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxexplain as ox
from onnxexplain.runtime import run_once
from tests.builders import net, weights
from tests.nets import NETS, data

ENGINES = ("eager", "compiled")
KINDS = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "double": TensorProto.DOUBLE,
}


def told_in(kind, proto):
    """A model with every float32 of it in another type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.elem_type = kind
    return copy


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "max-pool", "squeeze-and-excite"])
def test_weights_and_inputs(name, kind, engine):
    """The weights are those of the file, to its own precision; all else is float32."""
    proto = NETS[name]
    x = data(proto, 2)["x"]
    plain = ox.explain(proto, x, target=1, engine=engine)
    e = ox.explain(told_in(KINDS[kind], proto), x, target=1, engine=engine)
    near = {"float16": 2e-3, "bfloat16": 2e-2, "double": 1e-6}[kind]
    assert e.attributions["x"].dtype == e.heatmap().dtype == e.logits.dtype == np.float32
    assert np.abs(e.residual).max() < 1e-5
    assert e.score == pytest.approx(plain.score, abs=10 * near)
    assert np.allclose(e.attributions["x"], plain.attributions["x"], atol=10 * near)


@pytest.mark.parametrize("kind", KINDS)
def test_in_float64(kind):
    """Of whatever width the file is, float64 checks it."""
    proto = told_in(KINDS[kind], NETS["sigmoid"])
    x = data(NETS["sigmoid"], 1)["x"]
    e = ox.explain(proto, x, target=1, engine="eager", dtype="float64")
    assert e.attributions["x"].dtype == np.float64
    assert np.abs(e.residual).max() < 1e-12


def test_a_double_stays_one_in_float64():
    """Of a file of doubles a step that float32 would round away tells the slope."""
    proto, x = told_in(TensorProto.DOUBLE, NETS["sigmoid"]), data(NETS["sigmoid"], 1)["x"]
    explain = ox.Explainer(proto, "gradient", target=1, engine="eager", dtype="float64")
    way = np.random.default_rng(0).normal(size=x.shape)
    step = 1e-9 * way
    slope = (explain(x + step).score - explain(x - step).score) / 2e-9
    assert slope == pytest.approx((explain(x).attributions["x"] * way).sum(), rel=1e-5)


def test_an_input_is_what_the_file_takes_in_float64_too():
    x = data(NETS["sigmoid"], 1)["x"].astype(np.float64) + 1e-9
    explain = ox.Explainer(NETS["sigmoid"], target=1, engine="eager", dtype="float64")
    assert np.array_equal(explain(x).score, explain(x.astype(np.float32)).score)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_inputs_of_the_files_own_type(kind, engine):
    proto = told_in(KINDS[kind], NETS["relu"])
    x = data(NETS["relu"], 1)["x"].astype(helper.tensor_dtype_to_np_dtype(KINDS[kind]))
    e = ox.explain(proto, x, engine=engine)
    assert e.attributions["x"].dtype == np.float32
    assert np.array_equal(e.inputs["x"].astype(np.float32), x.astype(np.float32))


def test_agreement_with_the_file():
    """What the file itself answers in half precision is within a hundredth."""
    proto = told_in(TensorProto.FLOAT16, NETS["relu"])
    e = ox.explain(proto, data(NETS["relu"], 1)["x"])
    assert 0 < e.difference < 1e-2
    double = ox.explain(told_in(TensorProto.DOUBLE, net(MATRIX, **weights(1, w=(6, 4)))), X)
    assert double.difference < 1e-6


def test_of_a_batch_and_of_several_models_the_difference_is_told():
    half, exact = told_in(TensorProto.FLOAT16, NETS["relu"]), NETS["relu"]
    batch = ox.explain(half, data(NETS["relu"], 3)["x"])
    assert 0 < batch.difference < 1e-2
    assert ox.explain(exact, batch.inputs["x"], ensemble=[half]).difference == batch.difference


MATRIX = "(float[N,6] x) => (float[N,4] y) { y = MatMul(x, w) }"
X = np.random.default_rng(0).standard_normal((1, 6)).astype(np.float32)


# ----- Casts -----


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_casts_in_between(kind, engine):
    """A part of a network in another precision: the casts hand everything on."""
    proto = net(
        f"""(float[N,6] x) => (float[N,4] y) {{
            a = Cast<to={getattr(TensorProto, kind)}>(x)  b = Cast<to=1>(a)  y = MatMul(b, w) }}""",
        **weights(1, w=(6, 4)),
    )
    e = ox.explain(proto, X, "gradient", target=2, engine=engine)
    assert np.allclose(e.attributions["x"], numpy_helper.to_array(proto.graph.initializer[0])[:, 2])


EIGHT_BITS = {
    "FLOAT8E4M3FN": ("float8_e4m3fn", 448),
    "FLOAT8E5M2": ("float8_e5m2", 57344),
    "FLOAT8E4M3FNUZ": ("float8_e4m3fnuz", 240),
    "FLOAT8E5M2FNUZ": ("float8_e5m2fnuz", 57344),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_casts_to_eight_bits_are_quantised(kind, engine):
    """The rounding is stepped over, what is beyond the largest number is cut off."""
    dtype, largest = EIGHT_BITS[kind]
    proto = net(
        f"""(float[N,4] x) => (float[N,3] y) {{
            a = Cast<to={getattr(TensorProto, kind)}>(x)  b = Cast<to=1>(a)  y = MatMul(b, w) }}""",
        opset=19,
        **weights(1, w=(4, 3)),
    )
    proto.ir_version = 9
    x = np.array([[0.3, -1.7, 2.0 * largest, -1.5 * largest]], np.float32)
    e = ox.explain(proto, x, engine=engine, target=1)
    near = np.clip(x, -largest, largest).astype(getattr(ml_dtypes, dtype)).astype(np.float32)
    w = numpy_helper.to_array(proto.graph.initializer[0])
    assert e.logits == pytest.approx(near @ w, rel=1e-5)
    assert e.logits == pytest.approx(run_once(proto, {"x": x}, ["y"])[0], rel=1e-5)
    inside = np.abs(x) <= largest
    assert np.allclose(e.attributions["x"], np.where(inside, x * w[:, 1], 0), rtol=1e-5)
    assert np.abs(e.residual).max() < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_of_eight_bits(engine):
    """Weights kept in eight bits, cast or scaled where they are read."""
    w = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    narrow = w.astype(ml_dtypes.float8_e4m3fn)
    for body in ("v = Cast<to=1>(w)", "v = DequantizeLinear(w, s)"):
        scaled = "s" in body.split("(")[1]
        proto = net(
            f"(float[N,6] x) => (float[N,4] y) {{ {body}  y = MatMul(x, v) }}",
            opset=19,
            **({"s": 0.5} if scaled else {}),
        )
        proto.ir_version = 9
        proto.graph.initializer.append(numpy_helper.from_array(narrow, "w"))
        e = ox.explain(proto, X, "gradient", target=3, engine=engine)
        expected = narrow.astype(np.float32)[:, 3] * (0.5 if scaled else 1)
        assert np.allclose(e.attributions["x"], expected)


@pytest.mark.parametrize(("kind", "most"), [("float16", 6e4), ("bfloat16", 3e38), ("double", 3e38)])
def test_what_the_files_type_does_not_hold_is_refused(kind, most):
    """In words, before anything is computed; a file of doubles takes doubles."""
    proto = told_in(KINDS[kind], NETS["sigmoid"])
    x = data(NETS["sigmoid"], 1)["x"].astype(np.float64)
    explain = ox.Explainer(proto, "gradient", target=1, engine="eager", dtype="float64")
    x.flat[0] = most
    assert np.isfinite(explain(x).attributions["x"]).all()
    x.flat[0] = 20 * most
    if kind == "double":
        assert np.isfinite(explain(x).attributions["x"]).all()
    else:
        with pytest.raises(ox.InputError, match="too large"):
            explain(x)
