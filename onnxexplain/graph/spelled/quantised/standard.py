"""The quantised operators of the standard."""

from onnx import TensorProto

from onnxexplain.graph.spelled.quantised.grid import DOMAIN, NARROW_FLOATS, RANGES, Grid
from onnxexplain.graph.spelled.quantised.state import Held
from onnxexplain.graph.spelled.quantised.step import MICROSOFT, Step, handler

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE})
_UNKNOWN = 0

# ----- To a grid and back -----


@handler("QuantizeLinear", "", MICROSOFT)
def quantize_linear(step: Step) -> bool:
    """Floats kept on a grid; integers that are quantised again stay integers."""
    x, scale, zero = step.input(0), step.input(1), step.input(2)
    kind = step.walk.kinds.get(x, _UNKNOWN)
    if x in step.walk.held or kind not in (*_FLOATS, _UNKNOWN):
        return False
    if step.walk.kinds.get(zero, 0) not in (*RANGES, _UNKNOWN):
        return step.refuse("the type it quantises to is not known")
    said = {"axis": step.said("axis", 1), "block": step.said("block_size", 0)}
    step.quantise(x, scale, zero, step.node.outputs[0], kind=step.said("output_dtype", 0), **said)
    return True


@handler("DequantizeLinear", "", MICROSOFT)
def dequantize_linear(step: Step) -> bool:
    """What the numbers stand for: nothing is left to do where they are held as that."""
    x, scale, zero = step.input(0), step.input(1), step.input(2)
    _is(step, step.real(x, scale, zero, step.said("axis", 1), step.said("block_size", 0)))
    return True


@handler("DynamicQuantizeLinear")
def dynamic_quantize_linear(step: Step) -> bool:
    """The grid is found from the data, and counts as given; the data are kept on it."""
    x, (numbers, scale, zero) = step.input(0), _three(step)
    step.write_all("DynamicGrid", x, to=[scale, zero], domain=DOMAIN)
    step.walk.kinds[zero] = TensorProto.UINT8
    step.quantise(x, scale, zero, numbers)
    return True


@handler("Cast")
def cast(step: Step) -> bool:
    """To floats of eight bits, or back from integers: whole numbers may await their step."""
    x, to, (y,) = step.input(0), step.said("to"), step.node.outputs
    held = step.walk.held.get(x)
    if held is None:
        floats = step.walk.kinds.get(x, _UNKNOWN) in (*_FLOATS, _UNKNOWN)
        if to not in NARROW_FLOATS or not floats or step.value(x) is not None:
            return False
        step.quantise(x, step.constant(1.0), "", y, kind=to)
        return True
    if to not in _FLOATS:
        return False
    if held.grid.kind == TensorProto.INT32 and _awaited(step, y, held.grid):
        step.walk.pending[y] = held
        return True
    _is(step, step.whole(x))
    return True


def _is(step: Step, tensor: str) -> None:
    """The node's output is a tensor that is there by now."""
    (y,) = step.node.outputs
    if tensor == y:
        return
    last = step.nodes[-1] if step.nodes else None
    if last is not None and tensor in last.output:
        last.output[list(last.output).index(tensor)] = y
    else:
        step.write("Identity", tensor, to=y)


def _three(step: Step) -> list[str]:
    outputs = [*step.node.outputs, "", ""][:3]
    return [name or step.fresh("unread") for name in outputs]


# ----- Products of integers: what they stand for is known once the step is multiplied in -----


@handler("MatMulInteger")
def matmul_integer(step: Step) -> bool:
    """The product of what stands for the left with the numbers of the right."""
    return _product(step, "MatMul", (step.input(2), -2), (step.input(3), -1))


@handler("ConvInteger")
def conv_integer(step: Step) -> bool:
    """The convolution of what stands for the input with the numbers of the weight."""
    return _product(step, "Conv", (step.input(2), 1), (step.input(3), 0))


def _product(step: Step, op_type: str, left: tuple[str, int], right: tuple[str, int]) -> bool:
    (a, b), (y,) = step.node.inputs[:2], step.node.outputs
    held, other = step.walk.held.get(a), step.walk.held.get(b)
    if held is None or not step.same(held.grid.zero, left[0], 0):
        return False
    if other is not None and not step.same(other.grid.zero, right[0], 0):
        return False
    if other is None and step.value(b) is None:
        return False
    numbers = other.name if other is not None else step.real(b, step.constant(1.0), *right)
    times = other.grid.scale if other is not None else ""
    grid = Grid(held.grid.scale, "", TensorProto.INT32, times=times)
    name = step.name(y, grid)
    step.write(op_type, held.name, numbers, to=name, **step.node.attributes)
    step.hold(y, Held(name, grid))
    return True


@handler("Mul")
def mul(step: Step) -> bool:
    """The product of whole numbers with the steps that they awaited."""
    waiting = [slot for slot, t in enumerate(step.node.inputs) if t in step.walk.pending]
    if not waiting:
        return False
    held = step.walk.pending[step.node.inputs[waiting[0]]]
    steps = _factors(step, step.node.inputs[1 - waiting[0]])
    for scale in (held.grid.scale, held.grid.times):
        if scale:
            steps.remove(scale)
    real = held.name
    for factor in steps:
        real = step.write("Mul", real, factor)
    _is(step, real)
    return True


def _awaited(step: Step, whole: str, grid: Grid) -> bool:
    """Whether all that is done to whole numbers is to multiply them by their step."""
    readers = step.walk.readers.get(whole, ())
    owed = [scale for scale in (grid.scale, grid.times) if scale]
    for node in readers:
        others = [t for t in node.inputs if t != whole]
        if node.op_type != "Mul" or len(others) != 1:
            return False
        given = _factors(step, others[0])
        if any(given.count(scale) < owed.count(scale) for scale in owed):
            return False
    return bool(readers) and whole not in step.walk.outputs


def _factors(step: Step, tensor: str) -> list[str]:
    """What a tensor is the product of."""
    maker = step.walk.makers.get(tensor)
    return list(maker.inputs) if maker is not None and maker.op_type == "Mul" else [tensor]


# ----- Layers -----


@handler("QLinearMatMul")
def qlinear_matmul(step: Step) -> bool:
    """MatMul, kept on a grid."""
    left, right = step.real_at(0, -2), step.real_at(3, -1)
    return step.onto(step.write("MatMul", left, right), 6)


@handler("QLinearConv", "", MICROSOFT)
def qlinear_conv(step: Step) -> bool:
    """Conv, kept on a grid; ONNX Runtime's own may have the channels last."""
    x, weight = step.real_at(0), step.real_at(3, 0)
    given = [x, weight]
    if step.input(8):
        given.append(step.bias(step.input(8), step.input(1), step.input(4)))
    said = dict(step.node.attributes)
    if not said.pop("channels_last", 0):
        y = step.write("Conv", *given, **said)
    else:
        rank = len(step.shape(weight) or ()) or 4
        given[0] = step.write("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])
        y = step.write("Conv", *given, **said)
        y = step.write("Transpose", y, perm=[0, *range(2, rank), 1])
    return step.onto(y, 6)
