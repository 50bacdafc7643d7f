"""Operators that do to integers what they would do to the floats that those stand for."""

import math

import numpy as np
from onnx import helper

from onnxexplain.graph.spelled.quantised.grid import Grid
from onnxexplain.graph.spelled.quantised.state import Held
from onnxexplain.graph.spelled.quantised.step import Step

ALIKE = frozenset({"MaxPool", "Identity"})
"""Each channel stays where it is: steps that differ by channel do too."""

MOVES = ALIKE | frozenset(
    (
        "Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather GatherElements GatherND "
        "Expand Tile DepthToSpace SpaceToDepth ReduceMax ReduceMin GlobalMaxPool TopK Compress "
        "ReverseSequence Resize"
    ).split()
)
"""The first input is moved, or the largest of it chosen; the others say where to."""

JOINS = {"Concat": 0, "Max": 0, "Min": 0, "Clip": 0, "Relu": 0, "Pad": 0, "Where": 1}
"""From a slot on the inputs are numbers of one grid (of Pad the data and the value)."""


def move(step: Step) -> bool:
    """Do to floats what a node does to the integers they stand for, where that is the same."""
    node = step.node
    if node.domain:
        return False
    grid = next(step.walk.held[t].grid for t in node.inputs if t in step.walk.held)
    if not _single(step, grid) and node.op_type not in ALIKE:
        return False
    if node.op_type in MOVES and node.inputs[0] in step.walk.held:
        return _moved(step, grid)
    return node.op_type in JOINS and _joined(step, grid)


def stay(step: Step) -> None:
    """Note that floats which lie on a grid still do so once they are moved."""
    node = step.node
    grid = step.walk.on_grid.get(node.inputs[0]) if node.inputs else None
    if grid is None or node.domain or node.op_type not in MOVES:
        return
    if node.op_type in ALIKE or (_single(step, grid) and not _between(step)):
        step.walk.on_grid[node.outputs[0]] = grid


def _between(step: Step) -> bool:
    """Whether a resize makes numbers that were not there."""
    return step.node.op_type == "Resize" and step.said("mode", "nearest") != "nearest"


def _moved(step: Step, grid: Grid) -> bool:
    node = step.node
    if any(t in step.walk.held for t in node.inputs[1:]):
        return False
    inputs = [step.walk.held[node.inputs[0]].name, *node.inputs[1:]]
    if _between(step):
        between = step.write("Resize", *inputs, **node.attributes)  # new numbers, to be rounded
        step.quantise(between, grid.scale, grid.zero, node.outputs[0])
        return True
    moved = len(node.outputs) if node.op_type == "Split" else 1  # else indices follow
    _write(step, node.op_type, inputs, grid, moved)
    return True


def _joined(step: Step, grid: Grid) -> bool:
    node, op_type = step.node, step.node.op_type
    inputs = list(node.inputs)
    if op_type == "Pad" and step.said("mode", "constant") == "constant":
        inputs += [""] * (3 - len(inputs))
        inputs[2] = inputs[2] or _nought(step, grid)
    slots = (0, 2) if op_type == "Pad" else range(JOINS[op_type], len(inputs))
    for slot in slots:
        if slot < len(inputs) and inputs[slot]:
            inputs[slot] = step.real(inputs[slot], grid.scale, grid.zero)
    if op_type == "Relu" and not step.same(grid.zero, "", 0):
        op_type = "Max"
        inputs.append(step.real(_nought(step, grid), grid.scale, grid.zero))
    _write(step, op_type, inputs, grid, 1)
    return True


def _write(step: Step, op_type: str, inputs: list[str], grid: Grid, moved: int) -> None:
    node = step.node
    names = [step.name(t, grid) if i < moved else t for i, t in enumerate(node.outputs)]
    step.write_all(op_type, *inputs, to=names, **node.attributes)
    for tensor, name in list(zip(node.outputs, names, strict=True))[:moved]:
        step.hold(tensor, Held(name, grid))


def _nought(step: Step, grid: Grid) -> str:
    """The number 0, which need not stand for 0."""
    return step.constant(np.zeros((), helper.tensor_dtype_to_np_dtype(grid.kind)))


def _single(step: Step, grid: Grid) -> bool:
    """Whether all numbers have one step."""
    shape = step.shape(grid.scale) if grid.scale else ()
    return shape is not None and math.prod(shape) == 1
