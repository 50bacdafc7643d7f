"""Which tensors keep their channels on the last axis (NHWC), as Keras has them."""

from collections.abc import Iterable, Mapping, Sequence

from onnxexplain.graph.node import Node

Shapes = Mapping[str, tuple[int, ...]]

COLOURS = (1, 3, 4)
"""How many channels an image has: enough to tell which axis they are on."""


def channels_last(nodes: Sequence[Node], shapes: Shapes, sources: Iterable[str]) -> frozenset[str]:
    """Return the tensors whose channels come last.

    An input's do where its sizes say so, or where a transpose brings them to the front. From there
    the layout goes through whatever keeps the shape, and changes at the next transpose.
    """
    last = {s for s in sources if _by_size(shapes.get(s, ())) or _by_transpose(nodes, shapes, s)}
    for node in nodes:
        out = node.outputs[0]
        perm = node.attributes.get("perm") if node.op_type == "Transpose" else None
        if perm is not None:
            if to_last(perm) and node.inputs[0] not in last:
                last.add(out)
        elif any(t in last and _alike(shapes, t, out) for t in node.inputs):
            last.add(out)
    return frozenset(last)


def to_first(perm: Sequence[int]) -> bool:
    """Whether a transpose brings the last axis behind the batch."""
    rank = len(perm)
    return rank > 2 and list(perm) == [0, rank - 1, *range(1, rank - 1)]


def to_last(perm: Sequence[int]) -> bool:
    """Whether a transpose takes axis 1 to the end."""
    return len(perm) > 2 and list(perm) == [0, *range(2, len(perm)), 1]


def _by_size(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[3] in COLOURS and shape[1] not in COLOURS


def _by_transpose(nodes: Sequence[Node], shapes: Shapes, source: str) -> bool:
    """Whether the first transpose behind an input brings its channels to the front."""
    reached = {source}
    for node in nodes:
        if reached.isdisjoint(node.inputs):
            continue
        if node.op_type == "Transpose":
            return to_first(node.attributes.get("perm") or ())
        if _alike(shapes, source, node.outputs[0]):
            reached.add(node.outputs[0])
    return False


def _alike(shapes: Shapes, a: str, b: str) -> bool:
    """Whether two tensors have the same shape, and positions."""
    return len(shapes.get(a, ())) > 2 and shapes.get(a) == shapes.get(b)
