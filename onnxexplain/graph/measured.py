"""Shapes that only the runtime can tell: those behind an operator the standard does not know."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxexplain.errors import ModelError
from onnxexplain.graph import weightless
from onnxexplain.graph.folding import MOST_ELEMENTS, Run, infer
from onnxexplain.graph.resized import say_sizes

Array = np.ndarray[Any, Any]

_UNTOLD = {"MaxUnpool"}
"""Operators whose shape the standard's inference does not tell, though a constant says it."""


def measure(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], run: Run
) -> dict[str, tuple[int, ...]]:
    """Return the shapes with those behind foreign operators, written into the model as well.

    Each such node is run by itself, on zeros; what the runtime refuses stays unknown.
    """
    while say_sizes(model, shapes):
        shapes = infer(model)
    held = {t.name for t in model.graph.initializer}
    tried: set[str] = set()
    while (node := _next(model, shapes, held, tried)) is not None:
        tried.add(node.name)
        try:
            found = _run(model, node, shapes, run)
        except (ModelError, RuntimeError, ValueError):
            continue
        for name, value in found.items():
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            info = helper.make_tensor_value_info(name, kind, value.shape)
            model.graph.value_info.append(info)
        shapes = infer(model)
    return shapes


def _next(
    model: onnx.ModelProto, shapes: Mapping[str, Any], held: set[str], tried: set[str]
) -> onnx.NodeProto | None:
    for node in model.graph.node:
        foreign = not onnx.defs.has(node.op_type, node.domain) or node.op_type in _UNTOLD
        ready = all(t in shapes or t in held for t in node.input if t)
        told = all(t in shapes for t in node.output if t)
        if foreign and ready and not told and node.name not in tried:
            found: onnx.NodeProto = node
            return found
    return None


def _run(
    model: onnx.ModelProto, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], run: Run
) -> dict[str, Array]:
    inferred = onnx.shape_inference.infer_shapes(weightless.standing_by(model)).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.value_info)}
    held = [t for t in model.graph.initializer if t.name in node.input]
    known = {t.name for t in held}
    inputs, feeds = [], {}
    for name in dict.fromkeys(t for t in node.input if t and t not in known):
        if math.prod(shapes[name]) > MOST_ELEMENTS:
            raise ModelError(f"`{name}` is too large to try {node.op_type} on")
        inputs.append(helper.make_tensor_value_info(name, kinds[name], shapes[name]))
        feeds[name] = np.zeros(shapes[name], helper.tensor_dtype_to_np_dtype(kinds[name]))
    names = [t for t in node.output if t]
    outputs = [onnx.ValueInfoProto(name=t) for t in names]
    graph = helper.make_graph([node], "one", inputs, outputs, held)
    one = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return dict(zip(names, run(one, feeds, names), strict=True))
