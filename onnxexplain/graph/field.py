"""What a receptive field is, and what is known around the node it is followed through."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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

    def between(self, step: float, first: float, last: float) -> "Axis":
        """Return the field of units ``step`` positions apart; unit 0 sees ``first`` to ``last``."""
        middle = self.start + (first + last) / 2 * self.stride
        return Axis(self.size + (last - first) * self.stride, self.stride * step, middle)

    def union(self, other: "Axis") -> "Axis":
        """Return the smallest field that holds both."""
        low = min(self.start - self.size / 2, other.start - other.size / 2)
        high = max(self.start + self.size / 2, other.start + other.size / 2)
        return Axis(high - low, max(self.stride, other.stride), (low + high) / 2)


ReceptiveField = tuple[Axis, ...]


@dataclass(frozen=True)
class Known:
    """What is known of the tensors around a node."""

    shapes: Shapes
    constants: Mapping[str, Any]
    last: frozenset[str]
    """The tensors whose channels come last."""
    nominal: bool
    fields: dict[str, ReceptiveField] = field(default_factory=dict)

    def of(self, node: Node) -> list[ReceptiveField]:
        """Return the fields of a node's inputs."""
        return [self.fields[t] for t in node.inputs if t in self.fields]

    def axes(self, tensor: str) -> range:
        """Return the spatial axes of a tensor."""
        rank = len(self.shapes.get(tensor, ()))
        return range(1, rank - 1) if tensor in self.last else range(2, rank)

    def sizes(self, tensor: str) -> list[int]:
        """Return the spatial sizes of a tensor."""
        return [self.shapes[tensor][axis] for axis in self.axes(tensor)]

    def values(self, node: Node, slot: int) -> list[Any]:
        """Return the values of a constant input; none where it is left out or no constant."""
        name = node.inputs[slot] if slot < len(node.inputs) else ""
        return list(self.constants[name].reshape(-1)) if name in self.constants else []

    def geometry(self, node: Node) -> list[tuple[int, int, int, int]] | None:
        """Return kernel, stride, dilation and padding at the beginning, per axis of a window."""
        rank, a = len(self.of(node)[0]), node.attributes
        kernel = a.get("kernel_shape") or list(self.shapes.get(node.inputs[1], ()))[2:]
        if len(kernel) != rank:
            return None
        strides, dilations = a.get("strides") or [1] * rank, a.get("dilations") or [1] * rank
        pads = a.get("pads") or [0] * (2 * rank)
        return list(zip(kernel, strides, dilations, pads[:rank], strict=True))
