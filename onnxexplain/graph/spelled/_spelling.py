"""How an operator is spelled out in standard ones, and where its spelling is looked up."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxexplain.graph.floats import float_tensors
from onnxexplain.graph.node import Node, array, read_nodes, reads

Array = np.ndarray[Any, Any]

MOST_NODES = 1 << 16
"""A model may have this many nodes once its loops and recurrences are written out step by step."""


@dataclass
class Ledger:
    """What is kept from one round of spelling out to the next."""

    parts: dict[str, str] = field(default_factory=dict)
    """By tensor, where nodes are accounted for as one: the output of the user's node they make."""
    decided: Mapping[str, int] | None = None
    """By node, what the data says: whether a condition holds, how many steps a loop takes.

    None where there is no data to ask.
    """
    undecided: list[str] = field(default_factory=list)
    """The nodes that wait for the data to say so."""


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
    ledger: Ledger = field(default_factory=Ledger)
    room: int = MOST_NODES
    """How many more nodes the model may have."""
    floats: Callable[[], Collection[str]] = frozenset
    """Tells which tensors hold floats."""
    sequences: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The tensors in every sequence that is known by now."""
    optionals: dict[str, str] = field(default_factory=dict)
    """What is in every optional; empty where there is nothing."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    reason: str = ""
    """Why it cannot be spelled out."""
    as_one: bool = False
    """Whether what its nodes add is told as one, under its own first output: steps, branches."""
    _counts: dict[str, int] = field(default_factory=dict)
    _constants: dict[Any, str] = field(default_factory=dict)

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, None where it is not known (yet)."""
        if tensor in self.held:
            return tuple(self.held[tensor].dims)
        return self.shapes.get(tensor)

    def value(self, tensor: str) -> Array | None:
        """Return the elements of a constant tensor, None where it is not one (yet)."""
        return array(self.held[tensor]) if tensor in self.held else None

    def is_float(self, tensor: str) -> bool:
        """Whether a tensor holds floats."""
        return tensor in self.floats()

    def fresh(self, hint: str) -> str:
        """Return a tensor or node name that is not taken."""
        base, count = f"{self.node.name}/{hint}", self._counts.get(hint, 0)
        name = f"{base}_{count}" if count else base
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        self._counts[hint] = count
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
        """Hold an array, once, and return its name.

        Python floats become float32, integers int64.
        """
        held = np.asarray(value, dtype)
        if dtype is None and held.dtype == np.float64:
            held = held.astype(np.float32)
        key = (held.shape, held.dtype.str, held.tobytes())
        if key not in self._constants:
            self._constants[key] = self.fresh(hint)
            self.constants.append(numpy_helper.from_array(held, self._constants[key]))
        return self._constants[key]

    def roomy(self, many: int) -> bool:
        """Whether there is room for so many nodes; refuses where there is not."""
        if many <= self.room:
            return True
        return self.refuse(
            f"which takes {many:,} nodes written out step by step, {MOST_NODES:,} being the most"
        )

    def ask(self, reason: str) -> int | None:
        """Return what the data decides here; None, with a reason, where it is not known (yet)."""
        decided = self.ledger.decided
        if decided is not None and self.node.name in decided:
            return decided[self.node.name]
        self.refuse(reason)
        if decided is not None:
            self.ledger.undecided.append(self.node.name)
        return None

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
    model: onnx.ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    skip: Collection[str] = (),
    ledger: Ledger | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Spell out, in place, every node that can be by now.

    Returns what was spelled out (operator types, once each), and by node name why others cannot be.
    """
    ledger = Ledger() if ledger is None else ledger
    ledger.undecided.clear()
    graph = model.graph
    held = {t.name: t for t in graph.initializer}
    taken = _names(graph)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    nodes, done, reasons = [], [], {}
    room = MOST_NODES - len(graph.node)
    floats = functools.cache(lambda: float_tensors(model))
    sequences: dict[str, tuple[str, ...]] = {}
    optionals: dict[str, str] = {}
    for proto, node in zip(list(graph.node), read_nodes(graph), strict=True):
        own = _SPELLINGS.get((node.domain, node.op_type))
        scope = Scope(
            node, proto, shapes, held, taken, opset, ledger, room, floats, sequences, optionals
        )
        if own is None or node.name in skip or not own(scope):
            nodes.append(proto)
            if scope.reason:
                reasons[node.name] = scope.reason
            continue
        nodes += scope.nodes
        room -= len(scope.nodes)
        first = next((t for t in node.outputs if t), "")
        if whole := ledger.parts.get(first, first if scope.as_one else ""):
            ledger.parts.update((t, whole) for made in scope.nodes for t in made.output)
        graph.initializer.extend(scope.constants)
        done.append(node.op_type)
    nodes = _read(nodes, graph, sequences.keys() | optionals.keys())
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes] if done else []
    if done:
        del graph.node[:]
        graph.node.extend(copies)
    return list(dict.fromkeys(done)), reasons


def _read(
    nodes: list[onnx.NodeProto], graph: onnx.GraphProto, plumbing: Collection[str]
) -> list[onnx.NodeProto]:
    """Leave out what makes sequences and optionals that nobody reads any more."""
    wanted, kept = {v.name for v in graph.output}, []
    for node in reversed(nodes):
        if not all(t in plumbing for t in node.output) or not wanted.isdisjoint(node.output):
            wanted |= reads(node)
            kept.append(node)
    return kept[::-1]


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every name in a graph and in those inside it."""
    names = {v.name for v in (*graph.input, *graph.initializer, *graph.value_info)}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
        for a in node.attribute:
            for inner in [a.g] if a.HasField("g") else a.graphs:
                names |= _names(inner)
    return names
