"""Floats of every width brought to one type: what the rules are written for."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnxexplain.graph.node import array

_FLOATS: set[int] = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
}


def retype(model: onnx.ModelProto, dtype: str) -> bool:
    """Bring every float to one type; return whether a narrower or wider one was there."""
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    others = _FLOATS - {to}
    found = [
        _retype_value(v, to, others) for v in [*model.graph.input, *model.graph.output]
    ] + _retype_graph(model.graph, to, others)
    return any(found)


def _retype_value(value: onnx.ValueInfoProto, to: int, others: set[int]) -> bool:
    kind = value.type.tensor_type
    if kind.elem_type not in others:
        return False
    kind.elem_type = to
    return True


def _retype_graph(graph: onnx.GraphProto, to: int, others: set[int]) -> list[bool]:
    found = [_retype_tensor(t, to, others) for t in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and _said(node) in ("value_float", "value_floats"):
            found.append(_spell_value(node, to))
        for a in node.attribute:
            if a.HasField("t"):
                found.append(_retype_tensor(a.t, to, others))
            elif a.HasField("g"):
                found += _retype_graph(a.g, to, others)
            elif a.name in ("to", "dtype") and a.i in others:
                a.i = to
                found.append(True)
    return found


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
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = inferred.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    floats = {v.name for v in values if v.type.tensor_type.elem_type in _FLOATS}
    return frozenset(floats | {t.name for t in graph.initializer if t.data_type in _FLOATS})


def _said(node: onnx.NodeProto) -> str:
    return node.attribute[0].name if node.attribute else ""
