"""One node of a model, and the name a person gives to it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnxexplain.errors import ModelError, first_line

KINDS = {
    "BatchNormalization": "batchnorm",
    "Conv": "conv",
    "ConvTranspose": "convtranspose",
    "MaxPool": "pool",
    "AveragePool": "pool",
    "LpPool": "pool",
    "GlobalAveragePool": "pool",
    "GlobalMaxPool": "pool",
    "GlobalLpPool": "pool",
}
"""Operators whose everyday name is not simply their own in lower case."""


@dataclass(frozen=True)
class Node:
    """An operator applied to named tensors; an empty name is an input left out."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    captured: tuple[str, ...] = ()
    """What the graphs inside it (the branches of an If) read of the tensors around it."""
    part_of: str = ""
    """In a lowered model: the user's tensor that it makes together with others, step by step."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Every tensor it depends on."""
        return (*self.inputs, *self.captured)

    @property
    def kind(self) -> str:
        """What a person calls it: conv, batchnorm, relu, pool, gemm, add, concat, ..."""
        return KINDS.get(self.op_type, self.op_type.lower())

    def __str__(self) -> str:
        return f"{self.op_type} (node `{self.name}`)"


def read_nodes(graph: onnx.GraphProto) -> tuple[Node, ...]:
    """Return the nodes of ``graph`` in its own, topological, order, each with a unique name."""
    taken: set[str] = set()
    nodes = []
    for index, proto in enumerate(graph.node):
        name = _text(proto.name) or f"{_text(proto.op_type)}_{index}"
        while name in taken:
            name += f"_{index}"
        taken.add(name)
        nodes.append(_read(proto, name))
    return tuple(nodes)


def _read(proto: onnx.NodeProto, name: str) -> Node:
    attributes = {a.name: _value(a) for a in proto.attribute}
    domain = "" if proto.domain == "ai.onnx" else _text(proto.domain)
    captured = tuple(sorted(reads(proto) - set(proto.input)))
    return Node(
        name,
        _text(proto.op_type),
        domain,
        tuple(proto.input),
        tuple(proto.output),
        attributes,
        captured,
    )


def _text(name: str | bytes) -> str:
    """A name as text: protobuf hands over bytes where a damaged file is no UTF-8."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def reads(node: onnx.NodeProto) -> set[str]:
    """Return every name a node reads, those of the graphs inside it included."""
    names = set(node.input)
    for a in node.attribute:
        for graph in [a.g] if a.HasField("g") else a.graphs:
            for inner in graph.node:
                names |= reads(inner)
            names |= {v.name for v in graph.output}
    return names


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return array(value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], bytes):
        return [v.decode("utf-8", "replace") for v in value]
    return list(value) if isinstance(value, tuple) or hasattr(value, "extend") else value


def array(tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    """Return the elements of a tensor.

    Raises
    ------
    ModelError
        if they do not fill its shape.
    """
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise ModelError(f"the tensor `{tensor.name}` is damaged ({first_line(error)})") from error
