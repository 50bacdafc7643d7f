"""The graph inside a node, written into the graph around it: once, or step after step."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnxexplain.graph.node import reads
from onnxexplain.graph.spelled._spelling import Scope

_NEW_EACH_TIME = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"}
_NEW_EACH_TIME |= {"Multinomial", "Bernoulli"}


@dataclass(frozen=True)
class Body:
    """A graph with its constants already written."""

    scope: Scope
    graph: onnx.GraphProto
    nodes: Sequence[onnx.NodeProto]
    """What is written each time."""
    names: Mapping[str, str]
    """The name outside, by the name inside, of what is written only once."""

    @classmethod
    def of(
        cls, scope: Scope, graph: onnx.GraphProto, moving: Collection[str] | None = None
    ) -> "Body":
        """Write what is to be written only once.

        That is every weight; and where ``moving`` says what changes from step to step, every node
        that depends on none of it.
        """
        names = {}
        for tensor in graph.initializer:
            held = onnx.TensorProto()
            held.CopyFrom(tensor)
            names[tensor.name] = held.name = scope.fresh(tensor.name)
            scope.constants.append(held)
        if moving is None:
            return cls(scope, graph, list(graph.node), names)
        changing, nodes = set(moving), []
        for node in graph.node:
            if changing.isdisjoint(reads(node)) and node.op_type not in _NEW_EACH_TIME:
                _write(scope, node, names, {})
            else:
                changing.update(node.output)
                nodes.append(node)
        return cls(scope, graph, nodes, names)

    def write(self, inputs: Mapping[str, str], to: Sequence[str] = ()) -> list[str]:
        """Write the nodes once; return the names of the outputs: those in ``to``, or new ones.

        ``inputs`` gives the tensors that stand for the graph's own inputs.
        """
        names = {**self.names, **inputs}
        outputs = [v.name for v in self.graph.output]
        wanted = {inside: name for inside, name in zip(outputs, to, strict=False) if name}
        for node in self.nodes:
            _write(self.scope, node, names, wanted)
        given = [names.get(inside, inside) for inside in outputs]
        for i, name in enumerate(to):
            if name and given[i] != name:  # an input handed on, or one tensor under two names
                given[i] = self.scope.write("Identity", given[i], to=name)
        return given


def _write(
    scope: Scope, node: onnx.NodeProto, names: dict[str, str], wanted: Mapping[str, str]
) -> None:
    """Write a node under the names outside, those in ``wanted`` where it makes them."""
    made = _renamed(node, names)
    names.update((t, wanted.get(t) or scope.fresh(t)) for t in node.output if t)
    made.output[:] = [names[t] if t else "" for t in node.output]
    made.name = scope.fresh(node.name or node.op_type)
    scope.nodes.append(made)


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """Return a copy that reads tensors under other names, in the graphs inside it too."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[:] = [names.get(t, t) for t in node.input]
    for a in made.attribute:
        for inner in [a.g] if a.HasField("g") else a.graphs:
            _rename_inside(inner, names)
    return made


def _rename_inside(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    own = {v.name for v in (*graph.input, *graph.initializer)}
    own |= {t for node in graph.node for t in node.output}
    outer = {inside: name for inside, name in names.items() if inside not in own}
    for node in graph.node:
        node.CopyFrom(_renamed(node, outer))
    for value in graph.output:
        value.name = outer.get(value.name, value.name)
