"""Which part of the input a unit sees: size, stride and start of its receptive field, per axis.

The recursion, for any kernel, dilation and
asymmetric padding: ``size += (k - 1) d j``, ``start += ((k - 1) d / 2 - pad) j``, ``j *= stride``.
Where branches meet, the union of their fields is taken. Behind what makes a map larger, units lie
between the positions they see; their field is the smallest that holds what any of them sees.
"""

from collections.abc import Callable, Mapping
from typing import Any

from onnxexplain.graph import field_between
from onnxexplain.graph.field import Axis, Known, ReceptiveField, Shapes
from onnxexplain.graph.layout import channels_last, to_first, to_last
from onnxexplain.graph.node import Node

__all__ = ["Axis", "ReceptiveField", "receptive_fields"]


def receptive_fields(
    nodes: tuple[Node, ...],
    shapes: Shapes,
    source: str,
    *,
    nominal: bool = False,
    constants: Mapping[str, Any] | None = None,
) -> dict[str, ReceptiveField]:
    """Return the receptive field in the input ``source`` of every tensor that has one.

    ``nominal`` leaves the windows of pools uncounted, as the names of the papers' layers do
    (a 2x2 pool moves the centres but does not widen the field). A tensor is left out where the
    spatial axes are gone (after a flatten) or cannot be followed. ``constants`` tell by how much a
    tensor is padded or cut; without them both ends are taken for alike.
    """
    rank = len(shapes[source])
    known = Known(shapes, constants or {}, channels_last(nodes, shapes, [source]), nominal)
    known.fields[source] = (Axis(1, 1, 0.0),) * max(rank - 2, 0)
    for node in nodes:
        if not known.of(node) or not node.outputs:
            continue
        found = _FOLLOW.get(node.op_type, _through)(node, known)
        if found is not None and len(shapes.get(node.outputs[0], ())) == len(found) + 2:
            known.fields[node.outputs[0]] = found
    return known.fields


Follow = Callable[[Node, Known], ReceptiveField | None]


# ----- Sizes stay -----


def _through(node: Node, known: Known) -> ReceptiveField | None:
    """Elementwise and joining operators: spatial sizes stay, fields unite."""
    fields = known.of(node)
    out = known.shapes.get(node.outputs[0], ())
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm") or ()
        return fields[0] if to_first(perm) or to_last(perm) else None
    if node.op_type in ("Reshape", "MatMul", "Gemm", "Flatten"):
        before = next((known.shapes[t] for t in node.inputs if t in known.shapes), ())
        if node.op_type != "Reshape" or before[2:] != out[2:]:
            return None
    if any(len(other) != len(fields[0]) for other in fields):
        return None
    united = fields[0]
    for other in fields[1:]:
        united = tuple(a.union(b) for a, b in zip(united, other, strict=True))
    return united


def _lost(node: Node, known: Known) -> ReceptiveField | None:
    """What is read depends on more than the position."""
    return None


# ----- Windows -----


def _window(node: Node, known: Known) -> ReceptiveField | None:
    rows = known.geometry(node)
    if rows is None:
        return None
    counted = not (known.nominal and node.kind == "pool")
    pairs = zip(known.of(node)[0], rows, strict=True)
    return tuple(axis.through(*row, counted) for axis, row in pairs)


def _whole(node: Node, known: Known) -> ReceptiveField | None:
    """Pooling over all positions is one window as large as its input."""
    rows = zip(known.of(node)[0], known.sizes(node.inputs[0]), strict=True)
    return tuple(axis.through(n, n, 1, 0, not known.nominal) for axis, n in rows)


def _reduce(node: Node, known: Known) -> ReceptiveField | None:
    out = node.outputs[0]
    before, after = known.shapes[node.inputs[0]], known.shapes.get(out, ())
    if len(after) == len(before) and known.sizes(out) == [1] * len(known.of(node)[0]):
        return _whole(node, known)
    return known.of(node)[0] if after[2:] == before[2:] else None


def _blocks(node: Node, known: Known) -> ReceptiveField | None:
    side = node.attributes["blocksize"]
    return tuple(axis.through(side, side, 1, 0, True) for axis in known.of(node)[0])


_FOLLOW: dict[str, Follow] = {
    "Conv": _window,
    "MaxPool": _window,
    "AveragePool": _window,
    "LpPool": _window,
    "GlobalAveragePool": _whole,
    "GlobalMaxPool": _whole,
    "GlobalLpPool": _whole,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce,
    "SpaceToDepth": _blocks,
    "Pad": field_between.pad,
    "Slice": field_between.cut,
    "ConvTranspose": field_between.transposed,
    "MaxUnpool": field_between.transposed,
    "DepthToSpace": field_between.to_space,
    "Resize": field_between.resize,
}
_FOLLOW |= dict.fromkeys(
    "AffineGrid Col2Im DFT DeformConv GridSample MaxRoiPool RoiAlign STFT".split(), _lost
)
