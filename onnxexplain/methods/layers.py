"""The layers of a network, for a method that can look at all of them."""

from collections.abc import Collection, Iterator, Sequence

from onnxexplain.graph import Lowered, Model, Node, receptive_fields
from onnxexplain.methods.way import Path
from onnxexplain.ops import find as known

EVERY = "all"
"""Asks a method that looks at a layer to look at every one."""


def every(
    lowered: Lowered,
    path: Path,
    model: Model,
    ends: Collection[str],
    channels_last: Collection[str],
) -> tuple[str, ...]:
    """Return the layers that have positions, input side first.

    A layer is a tensor of the user's own that ends a block (``ends``), that a pool made, or that
    joins branches: a sum, with the activation behind it, or a concatenation. Its positions must
    be the input's, seen coarser or finer.
    """
    source = next((n for n in model.inputs if len(lowered.shapes[n]) > 2), None)
    fields = (
        {}
        if source is None
        else receptive_fields(lowered.nodes, lowered.shapes, source, constants=lowered.constants)
    )
    own = {t for node in model.nodes for t in node.outputs} & fields.keys()
    found = {*ends, *_pooled(path.nodes), *_joined(path)} & own
    made = [t for node in path.nodes for t in node.outputs if t in found]
    return tuple(t for t in made if _positions(lowered.shapes[t], t in channels_last) > 1)


def _positions(shape: Sequence[int], last: bool) -> int:
    """The greatest number of positions along an axis."""
    return max(shape[1:-1] if last else shape[2:], default=1)


def _pooled(nodes: Collection[Node]) -> Iterator[str]:
    yield from (node.outputs[0] for node in nodes if node.kind == "pool")


def _joined(path: Path) -> Iterator[str]:
    readers: dict[str, list[Node]] = {}
    for node in path.nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(node)
    for node in path.nodes:
        branches = sum(t in path.moving for t in node.inputs)
        if branches < 2 or (node.op_type != "Concat" and _role(node) != "sum"):
            continue
        following = readers.get(node.outputs[0], [])
        if len(following) == 1 and _role(following[0]) == "activation":
            yield following[0].outputs[0]
        else:
            yield node.outputs[0]


def _role(node: Node) -> str:
    operator = known(node.domain, node.op_type)
    return "" if operator is None else operator.role
