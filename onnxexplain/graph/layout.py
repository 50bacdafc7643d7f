"""Which tensors keep their channels on the last axis (NHWC), as Keras has them."""

from collections.abc import Iterable, Mapping, Sequence

from onnxexplain.graph.node import Node

Shapes = Mapping[str, tuple[int, ...]]

COLOURS = (1, 3, 4)
"""How many channels an image has: enough to tell which axis they are on."""


def channels_last(nodes: Sequence[Node], shapes: Shapes, sources: Iterable[str]) -> frozenset[str]:
    """Return the tensors whose channels come last.

    An input's do where its sizes say so, where a transpose brings them to the front, or where it is
    a sequence whose steps each go through a product; so do the rows that tokens are looked up as.
    From there the layout goes through whatever keeps the shape, and changes at the next transpose.
    """
    last = {s for s in sources if _of_source(nodes, shapes, s)}
    for node in nodes:
        out = node.outputs[0]
        perm = node.attributes.get("perm") if node.op_type == "Transpose" else None
        if _looked_up(node, shapes):
            last.add(out)
        elif perm is not None:
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


def _of_source(nodes: Sequence[Node], shapes: Shapes, source: str) -> bool:
    return (
        _by_size(shapes.get(source, ()))
        or _by_transpose(nodes, shapes, source)
        or _by_product(nodes, shapes, source)
    )


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


def _by_product(nodes: Sequence[Node], shapes: Shapes, source: str) -> bool:
    """Whether the first product behind a sequence is over its last axis, as in a recurrence."""
    if len(shapes.get(source, ())) != 3:
        return False
    width, reached = shapes[source][-1], {source}
    for node in nodes:
        if reached.isdisjoint(node.inputs):
            continue
        if node.op_type in ("MatMul", "Gemm"):
            return node.inputs[0] in reached and not node.attributes.get("transA")
        if not _keeps_last(node, shapes, source, width):
            return False
        reached.update(node.outputs)
    return False


def _keeps_last(node: Node, shapes: Shapes, source: str, width: int) -> bool:
    """Whether what a node makes has the same values along its last axis, elementwise changed."""
    if node.op_type == "Transpose":
        perm = list(node.attributes.get("perm") or [0])
        return len(perm) > 1 and perm[-1] == len(perm) - 1
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
        made = shapes.get(node.outputs[0], (0,))
        return len(made) > 0 and made[-1] == width
    return _alike(shapes, source, node.outputs[0])


def _looked_up(node: Node, shapes: Shapes) -> bool:
    """Whether a node looks up tokens in a table, one row for each."""
    if node.op_type != "Gather" or node.attributes.get("axis", 0):
        return False
    return len(shapes.get(node.inputs[0], ())) == 2 and len(shapes.get(node.outputs[0], ())) > 2


def _alike(shapes: Shapes, a: str, b: str) -> bool:
    """Whether two tensors have the same shape, and positions."""
    return len(shapes.get(a, ())) > 2 and shapes.get(a) == shapes.get(b)
