"""Floats of every width brought to one type: what the rules are written for."""

from collections.abc import Set

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnxexplain.graph.inference import inferred
from onnxexplain.graph.node import array, reads

_FLOATS: set[int] = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
}


def retype(model: onnx.ModelProto, dtype: str) -> bool:
    """Bring every float to one type; return whether a narrower or wider one was there.

    What the standard has in float32 only (the scales of a Resize) is cast to that, or stays so.
    """
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    others = _FLOATS - {to}
    narrow = _narrowed(model.graph) if to != TensorProto.FLOAT else set()
    if to != TensorProto.FLOAT:
        _widened(model.graph, to)
    found = [
        _retype_value(v, to, others) for v in [*model.graph.input, *model.graph.output]
    ] + _retype_graph(model.graph, to, others, narrow)
    return any(found)


def _narrowed(graph: onnx.GraphProto) -> set[str]:
    """Give every input that takes float32 only a tensor of its own; return their names."""
    readers: dict[str, int] = {v.name: 1 for v in graph.output}
    for node in graph.node:
        for name in reads(node):
            readers[name] = readers.get(name, 0) + 1
    makers = {t: node for node in graph.node for t in node.output}
    held = {t.name for t in graph.initializer}
    narrow, nodes = set(), []
    for node in graph.node:
        for slot in _float32_only(node):
            name = node.input[slot]
            cast = makers[name].op_type == "Cast" if name in makers else name in held
            if not cast or readers[name] > 1:
                node.input[slot] = f"{node.output[0]}/float32_{slot}"
                made = {"name": node.input[slot], "to": TensorProto.FLOAT}
                nodes.append(onnx.helper.make_node("Cast", [name], [node.input[slot]], **made))
            narrow.add(node.input[slot])
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes] if narrow else []
    if narrow:
        del graph.node[:]
        graph.node.extend(copies)
    return narrow


def _widened(graph: onnx.GraphProto, to: int) -> None:
    """Cast the step that DynamicQuantizeLinear finds, which is float32 whatever its input is."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "DynamicQuantizeLinear" or node.output[1].endswith("/float32"):
            continue
        name = node.output[1]
        node.output[1] = f"{name}/float32"
        made = onnx.helper.make_node("Cast", [node.output[1]], [name], f"{name}/widened", to=to)
        nodes.append(made)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    if len(copies) > len(graph.node):
        del graph.node[:]
        graph.node.extend(copies)


def _float32_only(node: onnx.NodeProto) -> list[int]:
    """Return the inputs of a node that are float32 whatever the others are."""
    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
        return []
    formal = onnx.defs.get_schema(node.op_type).inputs
    return [
        slot
        for slot, (name, given) in enumerate(zip(node.input, formal, strict=False))
        if name and given.type_str == "tensor(float)"
    ]


def _retype_value(value: onnx.ValueInfoProto, to: int, others: set[int]) -> bool:
    kind = value.type.tensor_type
    if kind.elem_type not in others:
        return False
    kind.elem_type = to
    return True


def _retype_graph(
    graph: onnx.GraphProto, to: int, others: set[int], narrow: Set[str] = frozenset()
) -> list[bool]:
    found = [_retype_tensor(t, to, others) for t in graph.initializer if t.name not in narrow]
    for node in graph.node:
        if not narrow.isdisjoint(node.output):
            continue
        if node.op_type in _SAID_IN and to != TensorProto.FLOAT:
            _say_type(node, _SAID_IN[node.op_type], to)
        if node.op_type == "Constant" and _said(node) in ("value_float", "value_floats"):
            found.append(_spell_value(node, to))
        for a in node.attribute:
            if a.HasField("t"):
                found.append(_retype_tensor(a.t, to, others))
            elif a.HasField("g"):
                said = (*a.g.input, *a.g.output, *a.g.value_info)
                found += [_retype_value(v, to, others) for v in said]
                found += _retype_graph(a.g, to, others)
            elif a.name in ("to", "dtype", "stash_type") and a.i in others:
                a.i = to
                found.append(True)
    return found


_SAID_IN = {"LayerNormalization": "stash_type", "SequenceEmpty": "dtype"}
"""Where a node says in which type it gives what it gives; float32 where it says nothing."""


def _say_type(node: onnx.NodeProto, attribute: str, to: int) -> None:
    if not any(a.name == attribute for a in node.attribute):
        node.attribute.append(onnx.helper.make_attribute(attribute, to))


def _spell_value(node: onnx.NodeProto, to: int) -> bool:
    """Hold a constant given as plain floats, which are float32, as a tensor of the type."""
    given = onnx.helper.get_attribute_value(node.attribute[0])
    wide = np.asarray(np.float32(given), onnx.helper.tensor_dtype_to_np_dtype(to))
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(wide)))
    return False


def _retype_tensor(tensor: onnx.TensorProto, to: int, others: set[int]) -> bool:
    if tensor.data_type not in others:
        return False
    wide = onnx.helper.tensor_dtype_to_np_dtype(to)
    tensor.CopyFrom(numpy_helper.from_array(array(tensor).astype(wide), tensor.name))
    return True


def float_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """Return the tensors that hold floats, constants among them."""
    graph = inferred(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    floats = {v.name for v in values if v.type.tensor_type.elem_type in _FLOATS}
    return frozenset(floats | {t.name for t in graph.initializer if t.data_type in _FLOATS})


def _said(node: onnx.NodeProto) -> str:
    return node.attribute[0].name if node.attribute else ""
