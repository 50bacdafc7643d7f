"""The walk through a graph that brings every quantised tensor to what it stands for."""

from collections.abc import Mapping, Sequence

import onnx

from onnxexplain.graph import weightless
from onnxexplain.graph.node import Node, read_nodes, reads
from onnxexplain.graph.spelled.quantised.grid import DOMAIN, NARROW_FLOATS, functions
from onnxexplain.graph.spelled.quantised.moves import move, stay
from onnxexplain.graph.spelled.quantised.state import Walk
from onnxexplain.graph.spelled.quantised.step import HANDLERS, Step


def dequantise(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> list[str]:
    """Bring quantised tensors to floats, in place; return the operators that were replaced.

    Every tensor of integers that floats were quantised to becomes a tensor of floats that holds
    what the integers stand for. What was quantised is kept on its grid by ``FakeQuantize``, so that
    the model computes what it computed. What only moves elements moves floats instead; what cannot
    do without the integers gets them back, and nothing goes back through it.
    """
    graph = model.graph
    nodes = read_nodes(graph)
    if not any(_begins(node) for node in nodes):
        return []
    state = _state(model, nodes, dtype)
    taken = {t for n in nodes for t in (n.name, *n.reads, *n.outputs)} | set(state.constants)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    written: list[onnx.NodeProto] = []
    done: list[str] = []
    for proto, node in zip(list(graph.node), nodes, strict=True):
        step = Step(
            node=node,
            proto=proto,
            shapes=shapes,
            held=state.constants,
            taken=taken,
            opset=opset,
            walk=state,
        )
        known = HANDLERS.get((node.domain, node.op_type))
        if (known is not None and known(step)) or (step.reads_held() and move(step)):
            done.append(node.op_type)
        else:
            step.keep()
            stay(step)
        written += step.nodes
        graph.initializer.extend(step.constants)
    if not done:
        return []
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in written]
    del graph.node[:]
    graph.node.extend(copies)
    del graph.value_info[:]  # what was integers holds floats now
    _without_unread(graph)
    for value in graph.output:
        if value.name in state.held:
            value.ClearField("type")
    _with_functions(model, opset)
    return list(dict.fromkeys(done))


def _begins(node: Node) -> bool:
    """Whether quantised numbers may begin at a node."""
    if node.op_type == "Cast":
        return node.attributes.get("to") in NARROW_FLOATS
    return (node.domain, node.op_type) in HANDLERS and node.op_type != "Mul"


def _state(model: onnx.ModelProto, nodes: Sequence[Node], dtype: str) -> Walk:
    light = weightless.standing_by(model)
    typed = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    values = (*typed.input, *typed.value_info, *typed.output)
    constants = {t.name: t for t in model.graph.initializer}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for tensor in dict.fromkeys(node.reads):
            readers.setdefault(tensor, []).append(node)
    return Walk(
        dtype,
        constants,
        {v.name: v.type.tensor_type.elem_type for v in values}
        | {name: t.data_type for name, t in constants.items()},
        readers,
        {t: node for node in nodes for t in node.outputs},
        frozenset(v.name for v in model.graph.output),
        frozenset(t for node in nodes for t in node.captured),
    )


def _without_unread(graph: onnx.GraphProto) -> None:
    """Drop the constants that nothing reads any more."""
    read = {t for node in graph.node for t in reads(node)} | {v.name for v in graph.output}
    held = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(held)


def _with_functions(model: onnx.ModelProto, opset: int) -> None:
    """Let the model carry the functions it calls."""
    there = {f.name for f in model.functions if f.domain == DOMAIN}
    called = {n.op_type for n in model.graph.node if n.domain == DOMAIN}
    model.functions.extend(f for f in functions(opset) if f.name in called - there)
    if called and not any(o.domain == DOMAIN for o in model.opset_import):
        model.opset_import.add(domain=DOMAIN, version=1)
