"""Operators of the standard that are other operators once their constants are known."""

import numpy as np

from onnxexplain.graph.spelled._spelling import Scope, spelling


@spelling("Scatter")
def scatter(scope: Scope) -> bool:
    """The old name of ScatterElements."""
    said = scope.node.attributes
    scope.write("ScatterElements", *scope.node.inputs, to=scope.node.outputs[0], **said)
    return True


@spelling("Compress")
def compress(scope: Scope) -> bool:
    """The slices a constant condition keeps, gathered."""
    x, condition = scope.node.inputs
    kept = scope.value(condition)
    if kept is None:
        return scope.refuse("its condition depends on the input")
    axis = scope.node.attributes.get("axis")
    if axis is None:
        x, axis = scope.write("Reshape", x, scope.constant(np.array([-1]))), 0
    index = scope.constant(np.flatnonzero(kept))
    scope.write("Gather", x, index, to=scope.node.outputs[0], axis=axis)
    return True


@spelling("PRelu")
def prelu(scope: Scope) -> bool:
    """One slope per channel as it was written before opset 7: without axes for the positions."""
    x, slope = scope.node.inputs
    shape, held = scope.shape(x), scope.value(slope)
    if shape is None or held is None or held.ndim != 1 or held.size == 1 or len(shape) < 3:
        return False
    if shape[-1] == held.size or shape[1] != held.size:
        return False
    column = scope.constant(held.reshape((-1, *(1,) * (len(shape) - 2))))
    scope.write("PRelu", x, column, to=scope.node.outputs[0])
    return True


@spelling("Mod")
def mod(scope: Scope) -> bool:
    """The rest of a floored division of floats, which the runtime knows of integers alone."""
    x, divisor = scope.node.inputs
    if scope.node.attributes.get("fmod", 0) or not scope.is_float(x):
        return False
    whole = scope.write("Floor", scope.write("Div", x, divisor))
    scope.write("Sub", x, scope.write("Mul", whole, divisor), to=scope.node.outputs[0])
    return True


@spelling("OneHot")
def one_hot(scope: Scope) -> bool:
    """Indices and a depth given as floats, which not everybody reads, as the integers they are."""
    depth = scope.value(scope.node.inputs[1])
    if depth is None or depth.dtype == np.int64:
        return False
    indices, _, values = scope.node.inputs
    whole = scope.constant(depth.astype(np.int64))
    indices = scope.write("CastLike", indices, whole)
    axis = scope.node.attributes.get("axis", -1)
    scope.write("OneHot", indices, whole, values, to=scope.node.outputs[0], axis=axis)
    return True
