"""The loop that goes down, and which rule it takes at each node."""

from collections.abc import Callable, Mapping

import numpy as np

from onnxexplain.errors import MethodError
from onnxexplain.methods._method import Way, on_cpu
from onnxexplain.methods.fixations import elementwise, linear, pooling
from onnxexplain.methods.fixations.marks import Array, Marks, Trail
from onnxexplain.reverse import Step
from onnxexplain.tensor import Arrays, Tensor

Rule = Callable[[Step, Marks, Trail], Mapping[int, Marks]]
"""``rule(step, marks, trail)``: from elements of a node's output to elements of its inputs."""

_BY_OPERATOR: dict[str, Rule] = {
    "Conv": linear.convolution,
    "Gemm": linear.product,
    "MatMul": linear.product,
    "MaxPool": pooling.window,
    "AveragePool": pooling.window,
    "GlobalMaxPool": pooling.whole,
    "GlobalAveragePool": pooling.whole,
    "ReduceMean": pooling.reduced,
    "ReduceSum": pooling.reduced,
    "ReduceMax": pooling.reduced,
    "Add": elementwise.larger,
    "Sub": elementwise.larger,
    "Sum": elementwise.larger,
    "Mean": elementwise.larger,
    "Mul": elementwise.gated,
    "Div": elementwise.gated,
    "Neg": elementwise.passed,
}
_BY_ROLE: dict[str, Rule] = {
    "activation": elementwise.passed,
    "softmax": elementwise.passed,
    "normalisation": elementwise.normalised,
}

_MEANS = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum"})


def fixate(way: Way, locate: str, head: str, keep: float) -> dict[str, Marks]:
    """Return the elements of every tensor that the score comes from.

    On CUDA all values are first copied to the host: little is computed, at scattered places.

    Raises
    ------
    MethodError
        if there is no rule for a node on the way.
    """
    trail = _trail(way, locate, head, keep)
    seed = on_cpu(way.seed)
    start = np.flatnonzero(seed)
    found = {way.output: Marks.of(start, np.sign(seed.ravel()[start]))}
    for node in reversed(way.nodes):
        arriving = tuple(found.get(t) if t else None for t in node.outputs)
        if all(marks is None for marks in arriving):
            continue
        step = Step.at(trail.xp, node, trail.values, way.moving)
        for slot, marks in _down(step, arriving, trail).items():
            tensor = node.inputs[slot]
            if step.varies[slot] and len(marks.at):  # what ends in a constant goes no further
                found[tensor] = marks.joined(found.get(tensor))
    return found


def _down(step: Step, arriving: tuple[Marks | None, ...], trail: Trail) -> Mapping[int, Marks]:
    attributes = step.node.attributes
    nearest = step.node.op_type == "Resize" and attributes.get("mode", "nearest") == "nearest"
    if step.operator.role == "routing" or nearest:
        return _routed(step, arriving)
    rule = None if step.operator.domain else _BY_OPERATOR.get(step.operator.op_type)
    rule = rule or _BY_ROLE.get(step.operator.role)
    if rule is None or arriving[0] is None:
        raise MethodError(
            f"cnn-fixations: no rule goes down through {step.node}; "
            "take another method, or explain a tensor before it with output="
        )
    return rule(step, arriving[0], trail)


def _routed(step: Step, arriving: tuple[Marks | None, ...]) -> Mapping[int, Marks]:
    """Go where the elements came from: the node's own way back moves a one to its source."""
    found: dict[int, Marks] = {}
    held = [marks for marks in arriving if marks is not None]
    for sign in np.unique(np.concatenate([marks.sign for marks in held])):
        ones = tuple(
            None if marks is None else _dense(marks.where(marks.sign == sign), y)
            for marks, y in zip(arriving, step.outputs, strict=True)
        )
        for slot, given in enumerate(step.back(ones if len(ones) > 1 else ones[0])):
            if given is not None and step.varies[slot]:
                at = np.flatnonzero(given != 0)
                marks = Marks(at, np.full(len(at), sign, np.int8))
                found[slot] = marks.joined(found.get(slot))
    return found


def _dense(marks: Marks, like: Tensor) -> Array:
    ones = np.zeros(like.shape, like.dtype)
    ones.reshape(-1)[marks.at] = 1
    return ones


def _trail(way: Way, locate: str, head: str, keep: float) -> Trail:
    depth: dict[str, int] = {}
    for node in way.nodes:
        deepest = max((depth.get(t, 0) for t in node.inputs), default=0)
        depth |= {t: deepest + 1 for t in node.outputs}
    return Trail(
        {name: on_cpu(value) for name, value in way.values.items()},
        way.moving,
        {t: node for node in way.nodes for t in node.outputs},
        depth,
        way.channels_last,
        _averaged(way) if head == "all" else frozenset(),
        locate,
        keep,
        Arrays(np),
    )


def _averaged(way: Way) -> frozenset[str]:
    """The tensors that a mean, and no weights, leads from to the score."""
    behind, averaged = {way.output}, set[str]()
    for node in reversed(way.nodes):
        if behind.isdisjoint(node.outputs) or way.step(node).operator.role == "linear":
            continue
        behind.update(node.inputs)
        if node.op_type in _MEANS or not averaged.isdisjoint(node.outputs):
            averaged.update(node.inputs)
    return frozenset(averaged)
