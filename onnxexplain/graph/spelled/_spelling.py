"""How an operator is spelled out in standard ones, and where its spelling is looked up."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxexplain.graph.node import Node, array, read_nodes

Array = np.ndarray[Any, Any]


@dataclass
class Scope:
    """What a spelling may look at, and where it writes the nodes that stand for its own."""

    node: Node
    proto: onnx.NodeProto
    shapes: Mapping[str, tuple[int, ...]]
    """The shapes known beforehand."""
    held: Mapping[str, onnx.TensorProto]
    taken: set[str]
    """Every name of the graph."""
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    reason: str = ""
    """Why it cannot be spelled out."""

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, None where it is not known (yet)."""
        return self.shapes.get(tensor)

    def value(self, tensor: str) -> Array | None:
        """Return the elements of a constant tensor, None where it is not one (yet)."""
        return array(self.held[tensor]) if tensor in self.held else None

    def fresh(self, hint: str) -> str:
        """Return a tensor or node name that is not taken."""
        name, count = f"{self.node.name}/{hint}", 0
        while name in self.taken:
            count += 1
            name = f"{self.node.name}/{hint}_{count}"
        self.taken.add(name)
        return name

    def write(self, op_type: str, *inputs: str, to: str = "", domain: str = "", **said: Any) -> str:
        """Write a node with one output, named ``to`` or anew; return the output's name."""
        return self.write_all(op_type, *inputs, to=[to], domain=domain, **said)[0]

    def write_all(
        self, op_type: str, *inputs: str, to: Sequence[str], domain: str = "", **said: Any
    ) -> list[str]:
        """Write a node with as many outputs as ``to`` has names (an empty one is named anew)."""
        outputs = [name or self.fresh(op_type) for name in to]
        given = {k: v for k, v in said.items() if v is not None}
        name = self.fresh(f"{op_type}_node")
        self.nodes.append(
            helper.make_node(op_type, list(inputs), outputs, name, domain=domain, **given)
        )
        return outputs

    def constant(self, value: Any, dtype: Any = None, hint: str = "constant") -> str:
        """Hold an array and return its name; Python floats become float32, integers int64."""
        held = np.asarray(value, dtype)
        if dtype is None and held.dtype == np.float64:
            held = held.astype(np.float32)
        name = self.fresh(hint)
        self.constants.append(numpy_helper.from_array(held, name))
        return name

    def refuse(self, reason: str) -> bool:
        """Say why this node cannot be spelled out; what a spelling returns then."""
        self.reason = reason
        return False


Spelling = Callable[[Scope], bool]
"""Writes the node in standard operators, its outputs under their own names.

Returns False, having written nothing that matters, where it cannot: for now (a shape or a constant
is not known yet) or for good (``scope.refuse(reason)``).
"""

_SPELLINGS: dict[tuple[str, str], Spelling] = {}


def spelling(op_type: str, *, domain: str = "") -> Callable[[Spelling], Spelling]:
    """Register the decorated function as the spelling of an operator."""

    def register(spell: Spelling) -> Spelling:
        _SPELLINGS[domain, op_type] = spell
        return spell

    return register


def spelled(domain: str, op_type: str) -> bool:
    """Whether an operator is spelled out in standard ones before anything is explained."""
    return ("" if domain == "ai.onnx" else domain, op_type) in _SPELLINGS


def spell(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], skip: Collection[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Spell out, in place, every node that can be by now.

    Returns what was spelled out (operator types, once each), and by node name why others cannot be.
    """
    graph = model.graph
    held = {t.name: t for t in graph.initializer}
    taken = _names(graph)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    nodes, done, reasons = [], [], {}
    for proto, node in zip(list(graph.node), read_nodes(graph), strict=True):
        own = _SPELLINGS.get((node.domain, node.op_type))
        scope = Scope(node, proto, shapes, held, taken, opset)
        if own is None or node.name in skip or not own(scope):
            nodes.append(proto)
            if scope.reason:
                reasons[node.name] = scope.reason
            continue
        nodes += scope.nodes
        graph.initializer.extend(scope.constants)
        done.append(node.op_type)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes] if done else []
    if done:
        del graph.node[:]
        graph.node.extend(copies)
    return list(dict.fromkeys(done)), reasons


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every name in a graph and in those inside it."""
    names = {v.name for v in (*graph.input, *graph.initializer, *graph.value_info)}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
        for a in node.attribute:
            for inner in [a.g] if a.HasField("g") else a.graphs:
                names |= _names(inner)
    return names
