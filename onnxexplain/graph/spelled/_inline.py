"""A graph inside a node, written out where the node stands."""

from collections.abc import Mapping, Sequence

import onnx

from onnxexplain.graph.spelled._spelling import Scope


def inlined(scope: Scope, graph: onnx.GraphProto, inputs: Sequence[str]) -> list[str]:
    """Write the nodes of ``graph`` with its inputs named so; return the names of its outputs.

    Every name of its own is made anew: the same graph may be written often.
    """
    named = {v.name: name for v, name in zip(graph.input, inputs, strict=True)}
    for tensor in graph.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        named[tensor.name] = copy.name = scope.fresh(tensor.name)
        scope.constants.append(copy)
    for node in graph.node:
        own = onnx.NodeProto()
        own.CopyFrom(node)
        _rename(own, named)
        named |= {t: scope.fresh(t) for t in node.output if t}
        own.output[:] = [named.get(t, "") for t in node.output]
        own.name = scope.fresh(f"{node.op_type}_node")
        scope.nodes.append(own)
    return [named.get(v.name, v.name) for v in graph.output]


def _rename(node: onnx.NodeProto, named: Mapping[str, str]) -> None:
    """Rename what a node reads, the graphs inside it included."""
    node.input[:] = [named.get(t, t) for t in node.input]
    for a in node.attribute:
        for graph in [a.g] if a.HasField("g") else a.graphs:
            own = {t.name for t in (*graph.input, *graph.initializer)}
            own |= {t for inner in graph.node for t in inner.output}
            outer = {old: new for old, new in named.items() if old not in own}
            for inner in graph.node:
                _rename(inner, outer)
            for v in graph.output:
                v.name = outer.get(v.name, v.name)
