"""If, Loop and Scan: the branch that is taken, or step after step."""

from collections.abc import Sequence

import numpy as np
import onnx

from onnxexplain.graph.spelled._body import Body
from onnxexplain.graph.spelled._spelling import Scope, spelling
from onnxexplain.graph.spelled._trips import trips

# ----- If -----


BY_DATA = "whose condition depends on the data"


@spelling("If")
def if_(scope: Scope) -> bool:
    """The branch that is taken; both, where only the data decides and there is none to ask."""
    (condition,), outputs = scope.node.inputs, scope.node.outputs
    scope.as_one = True
    known = scope.value(condition)
    holds = scope.ask(BY_DATA) if known is None else known.all()
    if holds is not None:
        taken = scope.node.attributes["then_branch" if holds else "else_branch"]
        Body.of(scope, taken).write({}, outputs)
        return True
    return scope.ledger.decided is None and _joined(scope)


def _joined(scope: Scope) -> bool:
    """Both branches, and of each element the one that is taken."""
    (condition,), outputs = scope.node.inputs, scope.node.outputs
    if not any(scope.is_float(t) for t in outputs if t):
        return False  # nothing flows back through it
    if any(scope.shape(t) is None for t in outputs if t):
        return scope.refuse(f"{BY_DATA} and whose branches differ in shape")
    if scope.shape(condition) != ():
        condition = scope.write("Reshape", condition, scope.constant(np.zeros(0, np.int64)))
    branches = (scope.node.attributes[n] for n in ("then_branch", "else_branch"))
    pairs = zip(outputs, *(Body.of(scope, branch).write({}) for branch in branches), strict=False)
    for output, then, otherwise in pairs:
        if output:
            scope.write("Where", condition, then, otherwise, to=output)
    return True


# ----- Loop -----


@spelling("Loop")
def loop(scope: Scope) -> bool:
    """Every step, where their number does not depend on the data."""
    graph, states = scope.node.attributes["body"], list(scope.node.inputs[2:])
    steps = trips(scope, graph)
    if steps is None:
        return False
    index, condition, *before = (v.name for v in graph.input)
    body = Body.of(scope, graph, [index, condition, *before])
    if not scope.roomy(steps * len(body.nodes)):
        return False
    scope.as_one = True
    axes = len(graph.input[0].type.tensor_type.shape.dim)
    going, many = scope.constant(np.array(True)), len(states)
    last, stacked = _padded(scope.node.outputs, len(graph.output) - 1), []
    for step in range(steps):
        number = scope.constant(np.full((1,) * axes, step, np.int64))
        given = {index: number, condition: going, **dict(zip(before, states, strict=True))}
        to = ["", *last[:many]] if step == steps - 1 else []
        _, *found = body.write(given, to)
        states = found[:many]
        stacked.append(found[many:])
    if not steps:
        return _nothing_done(scope, states, last)
    for name, *parts in zip(last[many:], *stacked, strict=True):
        _stack(scope, parts, 0, name)
    return True


def _nothing_done(scope: Scope, states: Sequence[str], outputs: Sequence[str]) -> bool:
    """A loop without a step hands its states on, and collects nothing."""
    for state, output in zip(states, outputs, strict=False):
        if output:
            scope.write("Identity", state, to=output)
    kinds = [v.type.tensor_type for v in scope.node.attributes["body"].output[1 + len(states) :]]
    for kind, output in zip(kinds, outputs[len(states) :], strict=True):
        sizes = [d.dim_value for d in kind.shape.dim]
        if output:
            if not kind.HasField("shape") or not all(sizes):
                return scope.refuse("which takes no step, and does not say what it would collect")
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            scope.write("Identity", scope.constant(np.zeros((0, *sizes), dtype)), to=output)
    return True


# ----- Scan -----


@spelling("Scan")
def scan(scope: Scope) -> bool:
    """Every step over the slices of its scanned inputs."""
    said, graph = scope.node.attributes, scope.node.attributes["body"]
    many = len(scope.node.inputs) - said["num_scan_inputs"]
    states, scanned = list(scope.node.inputs[:many]), scope.node.inputs[many:]
    axes = said.get("scan_input_axes", [0] * len(scanned))
    shape = scope.shape(scanned[0])
    if shape is None:
        return False
    steps, names = shape[axes[0]], [v.name for v in graph.input]
    body = Body.of(scope, graph, names)
    if not scope.roomy(steps * (len(body.nodes) + len(scanned))):
        return False
    scope.as_one = True
    slices = [_slices(scope, x, axis, steps) for x, axis in zip(scanned, axes, strict=True)]
    slices = _turned(slices, said.get("scan_input_directions"))
    last, stacked = _padded(scope.node.outputs, len(graph.output)), []
    for step in range(steps):
        given = dict(zip(names, [*states, *(parts[step] for parts in slices)], strict=True))
        found = body.write(given, last[:many] if step == steps - 1 else [])
        states = found[:many]
        stacked.append(found[many:])
    columns = [list(parts) for parts in zip(*stacked, strict=True)]
    columns = _turned(columns, said.get("scan_output_directions"))
    places = said.get("scan_output_axes", [0] * len(columns))
    for name, parts, axis in zip(last[many:], columns, places, strict=True):
        _stack(scope, parts, axis, name)
    return True


def _slices(scope: Scope, x: str, axis: int, steps: int) -> list[str]:
    """Cut a tensor along an axis into its slices."""
    each = scope.constant(np.ones(steps, np.int64))
    parts = scope.write_all("Split", x, each, to=[""] * steps, axis=axis)
    where = scope.constant(np.array([axis]))
    return [scope.write("Squeeze", part, where) for part in parts]


def _turned(columns: list[list[str]], backwards: Sequence[int] | None) -> list[list[str]]:
    """Each list of slices from its last to its first, where the node says so."""
    if not backwards:
        return columns
    return [parts[::-1] if turn else parts for parts, turn in zip(columns, backwards, strict=True)]


# ----- Both -----


def _padded(outputs: Sequence[str], many: int) -> list[str]:
    return [*outputs, *[""] * (many - len(outputs))]


def _stack(scope: Scope, parts: Sequence[str], axis: int, to: str) -> None:
    """Put slices side by side along a new axis."""
    if not to:
        return
    where = scope.constant(np.array([axis]))
    rows = [scope.write("Unsqueeze", part, where) for part in parts]
    scope.write("Concat", *rows, to=to, axis=axis)
