"""The books of a share-distributing method: what each constant of the network added."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from onnxexplain.methods._method import Way
from onnxexplain.ops import none
from onnxexplain.reverse import Step
from onnxexplain.tensor import Tensor

if TYPE_CHECKING:
    from onnxexplain.graph import Node

_CHAINED = frozenset({"activation", "normalisation"})


def constants(way: Way, arrived: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the total [N] that each node's offset added, under the node's first output.

    Nodes that make one tensor of the user's step by step are told as one, under that tensor.
    """
    told = set()
    for node in way.nodes:
        tensor = node.outputs[0]
        if arrived.keys().isdisjoint(node.outputs) or node.part_of in told:
            continue
        if node.part_of:
            told.add(node.part_of)
            yield node.part_of, _written_out(way, arrived, node.part_of)
            continue
        step = way.step(node)
        # An offset is that of the first output: where a score comes from others too, the total is.
        several = any(t in arrived for t in node.outputs[1:])
        if step.operator.offset is None or (several and step.operator.offset is not none):
            yield tensor, _missing(way, step, tuple(arrived.get(t) for t in node.outputs))
        elif tensor not in arrived:
            continue
        elif (offset := step.offset()) is not None:
            yield tensor, way.dot(arrived[tensor], offset)


def _missing(way: Way, step: Step, arrived: tuple[Tensor | None, ...]) -> Tensor:
    """The total of an operator without an offset of its own: what its inputs' shares leave."""
    came = [way.dot(g, y) for g, y in zip(arrived, step.outputs, strict=True) if g is not None]
    given = step.back(arrived if len(arrived) > 1 else arrived[0])
    left = [
        way.dot(share, x)
        for share, x, moves in zip(given, step.inputs, step.varies, strict=True)
        if share is not None and moves
    ]
    return _net(way, came, left)


def _written_out(way: Way, arrived: dict[str, Tensor], whole: str) -> Tensor:
    """The total of an operator written out step by step: between its steps everything cancels.

    What is left is what arrives at it from behind, less what it hands on to what is before it.
    """
    steps = [node for node in way.nodes if node.part_of == whole]
    made = {t for node in steps for t in node.outputs}
    behind = {t for node in way.nodes if node.part_of != whole for t in node.inputs} | {way.output}
    came, left = [], []
    for node in steps:
        arriving = tuple(arrived.get(t) for t in node.outputs)
        for tensor, g in zip(node.outputs, arriving, strict=True):
            if g is not None and tensor in behind:
                came.append(way.dot(g, way.values[tensor]))
        edge = [t in way.moving and (t not in made or t in behind) for t in node.inputs]
        if any(edge) and any(g is not None for g in arriving):
            given = way.step(node).back(arriving if len(arriving) > 1 else arriving[0])
            for tensor, share, leaves in zip(node.inputs, given, edge, strict=True):
                if leaves and share is not None:
                    left.append(way.dot(share, way.values[tensor]))
    return _net(way, came, left)


def _net(way: Way, came: list[Tensor], left: list[Tensor]) -> Tensor:
    """Sum what came less the sum of what left; where one has no batch axis, that of all samples."""
    if len({part.shape for part in (*came, *left)}) > 1:
        came, left = (
            [way.xp.sum(part, axis=0, keepdims=True) for part in parts] for parts in (came, left)
        )
    return sum(came, 0.0) - sum(left, 0.0)


def born(way: Way, arrived: dict[str, Tensor], tensor: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield derivative and offset of every node of the block that ends in ``tensor``.

    A block is a convolution or matrix product, with the normalisation, the constant addition and
    the activation that follow it.
    """
    makers = {node.outputs[0]: node for node in way.nodes}
    while (node := makers.get(tensor)) is not None and tensor in arrived:
        step = way.step(node)
        moving = [t for t, moves in zip(node.inputs, step.varies, strict=True) if moves]
        ends = step.operator.role == "linear"
        if not (ends or step.operator.role in _CHAINED or _shifts(step, moving)):
            return
        if step.operator.offset is not None and (offset := step.offset()) is not None:
            yield arrived[tensor], offset
        if ends:
            return
        tensor = moving[0]


def _shifts(step: Step, moving: list[str]) -> bool:
    """Whether a node only adds a constant."""
    return step.operator.role == "sum" and len(moving) == 1


def blocks(way: Way) -> tuple[str, ...]:
    """Return the tensors that end a block, input side first."""
    readers: dict[str, list[Node]] = {}
    for node in way.nodes:
        for tensor in set(node.inputs) & way.moving:
            readers.setdefault(tensor, []).append(node)
    ends = []
    for node in way.nodes:
        if node.part_of or way.step(node).operator.role != "linear":
            continue
        end = node.outputs[0]
        while len(following := readers.get(end, [])) == 1:
            step = way.step(following[0])
            if step.node.part_of:
                break
            moving = [t for t, moves in zip(step.node.inputs, step.varies, strict=True) if moves]
            if not (step.operator.role in _CHAINED or _shifts(step, moving)):
                break
            end = following[0].outputs[0]
        ends.append(end)
    return tuple(dict.fromkeys(ends))
