"""The numbers a quantised tensor can hold, and the functions that keep a float tensor on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]

DOMAIN = "onnxexplain"
"""The domain of the functions below, which a lowered model carries with it."""

_RANGES = {
    "UINT8": (0, 255),
    "INT8": (-128, 127),
    "UINT16": (0, 65535),
    "INT16": (-32768, 32767),
    "UINT4": (0, 15),
    "INT4": (-8, 7),
    "UINT2": (0, 3),
    "INT2": (-2, 1),
    "FLOAT8E4M3FN": (-448, 448),
    "FLOAT8E4M3FNUZ": (-240, 240),
    "FLOAT8E5M2": (-57344, 57344),
    "FLOAT8E5M2FNUZ": (-57344, 57344),
    "FLOAT4E2M1": (-6, 6),
}

RANGES = {
    int(getattr(TensorProto, name)): ends
    for name, ends in _RANGES.items()
    if hasattr(TensorProto, name)  # the installed standard may not know the newest
}
"""The least and the greatest number of every type that a tensor is quantised to."""

NARROW_FLOATS = frozenset(
    int(getattr(TensorProto, name))
    for name in _RANGES
    if name.startswith("FLOAT") and hasattr(TensorProto, name)
)
"""Floats so narrow that a cast to them is a quantisation."""

BLOCKS = 21
"""From this opset on steps may differ by block."""


@dataclass(frozen=True)
class Grid:
    """What the numbers of a quantised tensor stand for: ``(number - zero) * scale``."""

    scale: str
    """The float tensor that holds the step; empty where it is 1."""
    zero: str
    """The tensor that holds the number which stands for 0; empty where that is 0."""
    kind: int
    """The type of the numbers, as ``onnx.TensorProto`` counts types."""
    axis: int = 1
    """Along which axis steps differ, where there are several."""
    block: int = 0
    """How many numbers along that axis share a step; 0 where it is one, or all."""
    times: str = ""
    """What the step is multiplied by: the other factor's, where this is a product."""


def spread(steps: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """Return the steps of a tensor of ``shape`` so that they broadcast against it."""
    if steps.size == 1:
        return steps.reshape(())
    if block:
        return np.repeat(steps, block, axis).take(range(shape[axis]), axis)
    return steps.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


def dequantised(
    numbers: Array, scale: Array, zero: Array | None, axis: int, block: int, dtype: Any
) -> Array:
    """Return what quantised numbers stand for."""
    wide = numbers.astype(np.float64)
    if zero is not None:
        wide = wide - spread(zero.astype(np.float64), wide.shape, axis, block)
    return np.asarray(wide * spread(scale.astype(np.float64), wide.shape, axis, block), dtype)


def functions(opset: int) -> list[onnx.FunctionProto]:
    """Return the functions that stand for quantisation in a lowered model.

    ``FakeQuantize`` moves each element to the nearest number of its grid and stays a float.
    ``DynamicGrid`` finds the grid for a tensor as DynamicQuantizeLinear does. ``Numbers`` gives the
    integers back where something reads them as integers.
    """
    said = ("axis", "block_size") if opset >= BLOCKS else ("axis",)
    largest = float(np.finfo(np.float32).max)
    quantise = _node("QuantizeLinear", ["x", "scale", "zero"], ["q"], *said)
    on_grid = [
        quantise,
        _node("DequantizeLinear", ["q", "scale", "zero"], ["d"], *said),
        # A layer that reads what DequantizeLinear gives would have its weights quantised anew by
        # ONNX Runtime, more coarsely than the file has them; behind this it stays as it is.
        helper.make_node("Constant", [], ["least"], value_float=-largest),
        helper.make_node("Constant", [], ["most"], value_float=largest),
        *(_node("CastLike", [name, "x"], [f"{name}_as_x"]) for name in ("d", "least", "most")),
        _node("Clip", ["d_as_x", "least_as_x", "most_as_x"], ["y"]),
    ]
    find = [
        _node("DynamicQuantizeLinear", ["x"], ["q", "s", "zero"]),
        _node("CastLike", ["s", "x"], ["scale"]),
    ]
    grid = ["x", "scale", "zero"]
    ends = ["axis", "block_size", "low", "high"]
    stamp = [helper.make_opsetid("", opset)]
    return [
        helper.make_function(DOMAIN, "FakeQuantize", grid, ["y"], on_grid, stamp, ends),
        helper.make_function(DOMAIN, "DynamicGrid", ["x"], ["scale", "zero"], find, stamp),
        helper.make_function(DOMAIN, "Numbers", grid, ["q"], [quantise], stamp, ends[:2]),
    ]


def _node(op_type: str, inputs: list[str], outputs: list[str], *attributes: str) -> onnx.NodeProto:
    """A node of a function, some of its attributes those of the call."""
    node = helper.make_node(op_type, inputs, outputs)
    for name in attributes:
        node.attribute.add(name=name, ref_attr_name=name, type=onnx.AttributeProto.INT)
    return node
