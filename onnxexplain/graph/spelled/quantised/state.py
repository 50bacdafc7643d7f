"""What is known while a quantised graph is walked through."""

from dataclasses import dataclass, field

import onnx

from onnxexplain.graph.node import Node
from onnxexplain.graph.spelled.quantised.grid import Grid


@dataclass(frozen=True)
class Held:
    """A quantised tensor as the float tensor ``name`` that holds what its numbers stand for."""

    name: str
    grid: Grid


@dataclass
class Walk:
    """What is known while a graph is walked through."""

    dtype: str
    """The float type of the model."""
    constants: dict[str, onnx.TensorProto]
    kinds: dict[str, int]
    """The type of every tensor in the file, as ``onnx.TensorProto`` counts types."""
    readers: dict[str, list[Node]]
    makers: dict[str, Node]
    outputs: frozenset[str]
    captured: frozenset[str]
    """What the graphs inside nodes read: there the name must keep its integers."""
    on_grid: dict[str, Grid] = field(default_factory=dict)
    """Float tensors whose elements are numbers of a grid already."""
    held: dict[str, Held] = field(default_factory=dict)
    integers: dict[str, str] = field(default_factory=dict)
    """Where the integers of a held tensor are."""
    pending: dict[str, Held] = field(default_factory=dict)
    """Whole numbers in floats that wait for the product with their step."""
