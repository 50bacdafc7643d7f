"""How often a loop runs, where that can be told without the data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnxexplain.graph.node import reads
from onnxexplain.graph.spelled._spelling import Scope

Array = np.ndarray[Any, Any]

BY_DATA = "whose number of steps depends on the data"


def trips(scope: Scope, body: onnx.GraphProto) -> int | None:
    """Return the number of steps of a Loop; None, and a reason, where it cannot be told."""
    most, condition, *states = [*scope.node.inputs, ""][: max(2, len(scope.node.inputs))]
    limit = scope.value(most) if most else None
    first = scope.value(condition) if condition else np.array(True)
    if first is None or (most and limit is None):
        return scope.ask(BY_DATA)
    if not first.all() or (limit is not None and limit.max() <= 0):
        return 0
    return _while(scope, body, states, None if limit is None else int(limit.max()))


def _while(
    scope: Scope, body: onnx.GraphProto, states: Sequence[str], limit: int | None
) -> int | None:
    """Follow the condition alone from step to step: what it reads is usually a counter."""
    index, condition, *others = (v.name for v in body.input)
    after = dict(zip((condition, *others), (v.name for v in body.output), strict=False))
    nodes, needed = _control(body, after)
    made = {t for node in nodes for t in node.output} | {t.name for t in body.initializer}
    given = {condition: np.array(True), **dict(zip(others, map(scope.value, states), strict=True))}
    given |= {t: _outer(scope, t, nodes) for t in needed - made - {index, *after}}
    values = {t: value for t, value in given.items() if t in needed}
    if any(value is None for value in values.values()):
        return scope.ask(BY_DATA)
    evaluator = ReferenceEvaluator(_part(scope, body, nodes, [index, *values], after))
    carried = [t for t in after if t in needed]
    steps = 0
    while limit is None or steps < limit:
        if not scope.roomy(steps * len(body.node)):
            return None
        feeds = {index: np.array(steps, np.int64), **values}
        going, *found = evaluator.run([after[condition], *(after[t] for t in carried)], feeds)
        steps += 1
        if not np.all(going):
            return steps
        if needed.isdisjoint((index, *others)):  # it goes on as it began
            break
        values |= dict(zip(carried, found, strict=True))
    if limit is None:
        scope.refuse("which never ends")
    return limit


def _control(
    body: onnx.GraphProto, after: Mapping[str, str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Return the nodes that decide whether a loop runs on, and every tensor that they read."""
    makers = {t: node for node in body.node for t in node.output if t}
    needed: set[str] = set()
    stack = [body.output[0].name]
    while stack:
        tensor = stack.pop()
        if tensor in needed:
            continue
        needed.add(tensor)
        if tensor in makers:
            stack += [t for t in reads(makers[tensor]) if t]
        elif tensor in after:
            stack.append(after[tensor])
    return [node for node in body.node if not needed.isdisjoint(node.output)], needed


def _outer(scope: Scope, tensor: str, nodes: Sequence[onnx.NodeProto]) -> Array | None:
    """A tensor around the loop: a constant, or anything of its shape where only that is read."""
    shape, readers = scope.shape(tensor), [node for node in nodes if tensor in reads(node)]
    if shape is not None and all(node.op_type in ("Shape", "Size") for node in readers):
        return np.broadcast_to(np.float32(0), shape)
    return scope.value(tensor)


def _part(
    scope: Scope,
    body: onnx.GraphProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    after: Mapping[str, str],
) -> onnx.ModelProto:
    """Return the model of the nodes that decide."""
    graph = helper.make_graph(
        nodes,
        "control",
        [onnx.ValueInfoProto(name=name) for name in inputs],
        [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(after.values())],
        body.initializer,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", scope.opset)])
