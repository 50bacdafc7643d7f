"""ONNX Runtime's own quantised operators, as its quantiser and its optimiser write them."""

import numpy as np
from onnx import helper

from onnxexplain.graph.spelled.quantised.grid import DOMAIN, Array
from onnxexplain.graph.spelled.quantised.step import MICROSOFT, Step, handler

# ----- Of one or two tensors -----


def _of_two(op_type: str) -> None:
    @handler(f"QLinear{op_type}", MICROSOFT)
    def write(step: Step) -> bool:
        return step.onto(step.write(op_type, step.real_at(0), step.real_at(3)), 6)


for _name in ("Add", "Mul"):
    _of_two(_name)


def _of_one(op_type: str) -> None:
    @handler(f"QLinear{op_type}", MICROSOFT)
    def write(step: Step) -> bool:
        said = dict(step.node.attributes)
        last = said.pop("channels_last", 0)
        x = step.real_at(0)
        if not last:
            y = step.write(op_type, x, **said)
        else:
            rank = len(said.get("kernel_shape", ())) + 2 if said else step.rank(x, 4)
            x = step.write("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])
            y = step.write(op_type, x, **said)
            y = step.write("Transpose", y, perm=[0, *range(2, rank), 1])
        return step.onto(y, 3)


for _name in ("Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool"):
    _of_one(_name)


@handler("QLinearSoftmax", MICROSOFT)
def qlinear_softmax(step: Step) -> bool:
    """Softmax, before opset 13 over all axes from the given one on."""
    x = step.real_at(0)
    if step.said("opset", 13) >= 13:
        y = step.write("Softmax", x, axis=step.said("axis", -1))
    else:
        flat = step.write("Flatten", x, axis=step.said("axis", 1))
        y = step.write("Reshape", step.write("Softmax", flat, axis=-1), step.write("Shape", x))
    return step.onto(y, 3)


@handler("QLinearReduceMean", MICROSOFT)
def qlinear_reduce_mean(step: Step) -> bool:
    """ReduceMean, kept on a grid."""
    axes = step.constant(np.array(step.said("axes"), np.int64))
    x = step.real_at(0)
    return step.onto(step.write("ReduceMean", x, axes, keepdims=step.said("keepdims", 1)), 3)


@handler("QLinearConcat", MICROSOFT)
def qlinear_concat(step: Step) -> bool:
    """Concat of tensors with steps of their own."""
    parts = [step.real_at(slot) for slot in range(2, len(step.node.inputs), 3)]
    return step.onto(step.write("Concat", *parts, axis=step.said("axis")), 0)


@handler("QLinearWhere", MICROSOFT)
def qlinear_where(step: Step) -> bool:
    """Where, of two tensors with steps of their own."""
    one, other = step.real_at(1), step.real_at(4)
    return step.onto(step.write("Where", step.input(0), one, other), 7)


# ----- Products -----


@handler("QGemm", MICROSOFT)
def qgemm(step: Step) -> bool:
    """Gemm, kept on a grid where it has one."""
    alpha, turned = step.said("alpha", 1.0), step.said("transB", 0)
    a = step.real_at(0)
    b = step.real_at(3, 0 if turned else 1)
    given = [a, b]
    if step.input(6):  # its step is that of the product, alpha among it
        given.append(step.bias(step.input(6), step.input(1), step.input(4), alpha=alpha))
    said = {"alpha": alpha, "transA": step.said("transA", 0), "transB": turned}
    if step.input(7):
        return step.onto(step.write("Gemm", *given, **said), 7)
    step.write("Gemm", *given, to=step.node.outputs[0], **said)
    return True


@handler("MatMulIntegerToFloat", MICROSOFT)
def matmul_integer_to_float(step: Step) -> bool:
    """MatMul of two quantised tensors, to floats."""
    a = step.real(step.input(0), step.input(2), step.input(4), -2)
    b = step.real(step.input(1), step.input(3), step.input(5), -1)
    _biased(step, a, b, step.input(6))
    return True


@handler("DynamicQuantizeMatMul", MICROSOFT)
def dynamic_quantize_matmul(step: Step) -> bool:
    """MatMul of a tensor whose grid is found from the data."""
    scale, zero = step.write_all("DynamicGrid", step.input(0), to=["", ""], domain=DOMAIN)
    numbers = step.fresh("numbers")
    step.quantise(step.input(0), scale, zero, numbers)
    b = step.real(step.input(1), step.input(2), step.input(3), -1)
    _biased(step, step.real(numbers, scale, zero), b, step.input(4))
    return True


def _biased(step: Step, a: str, b: str, bias: str) -> None:
    (y,) = step.node.outputs
    product = step.write("MatMul", a, b, to="" if bias else y)
    if bias:
        step.write("Add", product, bias, to=y)


@handler("MatMulNBits", MICROSOFT)
def matmul_n_bits(step: Step) -> bool:
    """MatMul with a constant weight packed into a few bits, its steps by block of a column."""
    packed, scales = step.value(step.input(1)), step.value(step.input(2))
    zeros = step.value(step.input(3)) if step.input(3) else None
    bits, many, inner = step.said("bits", 4), step.said("N"), step.said("K")
    if packed is None or scales is None or (step.input(3) and zeros is None):
        return step.refuse("its weight depends on the input")
    if bits not in (2, 4, 8) or step.input(4) or step.said("weight_prepacked", 0):
        return step.refuse("with a weight reordered, or of a width other than 2, 4 or 8 bits")
    size = step.said("block_size")
    blocks = -(-inner // size)
    numbers = _unpacked(packed.reshape(many, blocks, -1), bits, size)
    steps = scales.reshape(many, blocks, 1).astype(np.float64)
    middle: Array = np.full((many, blocks, 1), float(1 << (bits - 1)))
    if zeros is not None and zeros.dtype == np.uint8:
        middle = _unpacked(zeros.reshape(many, 1, -1), bits, blocks).reshape(many, blocks, 1)
    elif zeros is not None:
        middle = zeros.reshape(many, blocks, 1).astype(np.float64)
    weight = ((numbers - middle) * steps).reshape(many, blocks * size)[:, :inner]
    _biased(step, step.input(0), step.constant(weight.T.copy()), step.input(5))
    return True


def _unpacked(packed: Array, bits: int, many: int) -> Array:
    """The first ``many`` numbers of so many bits along the last axis, the low bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    apart = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return np.asarray(apart.reshape(*packed.shape[:-1], -1)[..., :many], np.float64)


# ----- Whole layers, whose weights are brought to floats -----


@handler("QAttention", MICROSOFT)
def qattention(step: Step) -> bool:
    """Attention of a quantised tensor."""
    x = step.real(step.input(0), step.input(3), step.input(6))
    weight = step.real(step.input(1), step.input(4), step.input(7), -1)
    given = [x, weight, step.input(2), step.input(5), step.input(8)]
    _as(step, "Attention", given)
    return True


@handler("QEmbedLayerNormalization", MICROSOFT)
def qembed_layer_normalization(step: Step) -> bool:
    """EmbedLayerNormalization with quantised tables."""
    tables = [
        step.real(step.input(i), step.input(s), step.input(s + 5)) if step.input(i) else ""
        for i, s in ((2, 8), (3, 9), (4, 10), (5, 11), (6, 12))
    ]
    _as(step, "EmbedLayerNormalization", [step.input(0), step.input(1), *tables, step.input(7)])
    return True


def _as(step: Step, op_type: str, inputs: list[str]) -> None:
    while inputs and not inputs[-1]:
        inputs.pop()
    said = step.node.attributes
    step.nodes.append(
        helper.make_node(
            op_type, inputs, step.node.outputs, step.node.name, domain=MICROSOFT, **said
        )
    )
