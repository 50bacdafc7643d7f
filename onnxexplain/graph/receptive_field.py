"""Which part of the input a unit sees: size, stride and start of its receptive field, per axis.

The recursion, for any kernel, dilation and
asymmetric padding: ``size += (k - 1) d j``, ``start += ((k - 1) d / 2 - pad) j``, ``j *= stride``.
Where branches meet, the union of their fields is taken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxexplain.graph.layout import to_first, to_last
from onnxexplain.graph.node import Node

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a receptive field, in input pixels.

    ``start`` is the centre of unit 0 (0-based pixel centres), ``stride`` the step to the next unit.
    """

    size: float
    stride: float
    start: float

    def through(self, kernel: int, stride: int, dilation: int, pad: int, counted: bool) -> "Axis":
        """Return the field after a window; one that is not counted moves the centre only."""
        reach = (kernel - 1) * dilation
        size = self.size + (reach * self.stride if counted else 0)
        return Axis(size, self.stride * stride, self.start + (reach / 2 - pad) * self.stride)

    def union(self, other: "Axis") -> "Axis":
        """Return the smallest field that holds both."""
        low = min(self.start - self.size / 2, other.start - other.size / 2)
        high = max(self.start + self.size / 2, other.start + other.size / 2)
        return Axis(high - low, max(self.stride, other.stride), (low + high) / 2)


ReceptiveField = tuple[Axis, ...]


def receptive_fields(
    nodes: tuple[Node, ...], shapes: Shapes, source: str, *, nominal: bool = False
) -> dict[str, ReceptiveField]:
    """Return the receptive field in the input ``source`` of every tensor that has one.

    ``nominal`` leaves the windows of pools uncounted, as the names of the papers' layers do
    (a 2x2 pool moves the centres but does not widen the field). A tensor is left out where the
    spatial axes are gone (after a flatten) or cannot be followed.
    """
    rank = len(shapes[source])
    fields: dict[str, ReceptiveField] = {source: (Axis(1, 1, 0.0),) * max(rank - 2, 0)}
    for node in nodes:
        known = [fields[t] for t in node.inputs if t in fields]
        if not known or not node.outputs:
            continue
        follow = _WINDOWS.get(node.op_type, _through)
        field = follow(node, shapes, known, nominal)
        if field is not None and len(shapes.get(node.outputs[0], ())) == len(field) + 2:
            fields[node.outputs[0]] = field
    return fields


Follow = Callable[[Node, Shapes, list[ReceptiveField], bool], ReceptiveField | None]


def _through(
    node: Node, shapes: Shapes, known: list[ReceptiveField], nominal: bool
) -> ReceptiveField | None:
    """Elementwise and joining operators: spatial sizes stay, fields unite."""
    out = shapes.get(node.outputs[0], ())
    rank = len(known[0])
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm") or ()
        return known[0] if to_first(perm) or to_last(perm) else None
    if node.op_type in ("Reshape", "MatMul", "Gemm", "Flatten"):
        before = next((shapes[t] for t in node.inputs if t in shapes), ())
        if node.op_type != "Reshape" or before[2:] != out[2:]:
            return None
    if any(len(field) != rank for field in known):
        return None
    field = known[0]
    for other in known[1:]:
        field = tuple(a.union(b) for a, b in zip(field, other, strict=True))
    return field


def _window(
    node: Node, shapes: Shapes, known: list[ReceptiveField], nominal: bool
) -> ReceptiveField | None:
    rank = len(known[0])
    a = node.attributes
    kernel = a.get("kernel_shape") or list(shapes.get(node.inputs[1], ()))[2:]
    if len(kernel) != rank:
        return None
    strides = a.get("strides") or [1] * rank
    dilations = a.get("dilations") or [1] * rank
    pads = a.get("pads") or [0] * (2 * rank)
    counted = not (nominal and node.kind == "pool")
    rows = zip(known[0], kernel, strides, dilations, pads[:rank], strict=True)
    return tuple(axis.through(k, s, d, p, counted) for axis, k, s, d, p in rows)


def _whole(
    node: Node, shapes: Shapes, known: list[ReceptiveField], nominal: bool
) -> ReceptiveField | None:
    """Pooling over all positions is one window as large as its input."""
    sizes = shapes[node.inputs[0]][2:]
    counted = not nominal
    rows = zip(known[0], sizes, strict=True)
    return tuple(axis.through(n, n, 1, 0, counted) for axis, n in rows)


def _reduce(
    node: Node, shapes: Shapes, known: list[ReceptiveField], nominal: bool
) -> ReceptiveField | None:
    before, after = shapes[node.inputs[0]], shapes.get(node.outputs[0], ())
    if len(after) == len(before) and after[2:] == (1,) * len(known[0]):
        return _whole(node, shapes, known, nominal)
    return known[0] if after[2:] == before[2:] else None


def _resize(
    node: Node, shapes: Shapes, known: list[ReceptiveField], nominal: bool
) -> ReceptiveField | None:
    before, after = shapes[node.inputs[0]][2:], shapes.get(node.outputs[0], ())[2:]
    if len(before) != len(after):
        return None
    rows = zip(known[0], before, after, strict=True)
    return tuple(_scaled(axis, n / m) for axis, n, m in rows)


def _scaled(axis: Axis, ratio: float) -> Axis:
    """Half-pixel centres: output unit 0 looks at input coordinate ``ratio / 2 - 1 / 2``."""
    return Axis(axis.size, axis.stride * ratio, axis.start + (ratio / 2 - 0.5) * axis.stride)


def _transposed(
    node: Node, shapes: Shapes, known: list[ReceptiveField], nominal: bool
) -> ReceptiveField | None:
    """A transposed convolution makes the steps smaller; each output sees ceil(k / s) inputs."""
    rank = len(known[0])
    a: dict[str, Any] = node.attributes
    kernel = a.get("kernel_shape") or list(shapes.get(node.inputs[1], ()))[2:]
    strides = a.get("strides") or [1] * rank
    pads = a.get("pads") or [0] * (2 * rank)
    field = []
    for axis, k, s, p in zip(known[0], kernel, strides, pads[:rank], strict=True):
        seen = -(-k // s)
        start = axis.start + (p - (k - 1) / 2) / s * axis.stride
        field.append(Axis(axis.size + (seen - 1) * axis.stride, axis.stride / s, start))
    return tuple(field)


_WINDOWS: dict[str, Follow] = {
    "Conv": _window,
    "MaxPool": _window,
    "AveragePool": _window,
    "LpPool": _window,
    "GlobalAveragePool": _whole,
    "GlobalMaxPool": _whole,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce,
    "Resize": _resize,
    "Upsample": _resize,
    "ConvTranspose": _transposed,
}
