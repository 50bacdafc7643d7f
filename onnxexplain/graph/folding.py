"""Shapes told beforehand, and constants computed beforehand."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxexplain.errors import ModelError, first_line
from onnxexplain.graph import weightless
from onnxexplain.graph.inference import inferred
from onnxexplain.graph.node import reads

Array = np.ndarray[Any, Any]
Run = Callable[[onnx.ModelProto, dict[str, Array], list[str]], list[Array]]
"""Runs a model on feeds and returns the named outputs."""

MOST_ELEMENTS = 1 << 28
"""A tensor folded while lowering may hold this many elements; a file must not fill the memory."""

MOST_OF_ALL = 1 << 32
"""Any tensor may hold this many elements."""


def infer(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor whose shape can be told beforehand.

    Raises
    ------
    ModelError
        if shapes do not fit together, or a tensor would fill the memory.
    """
    try:
        # What does not fit may be in a branch that is never taken; and behind what is not the
        # standard's, types are not known before it is spelled out.
        strict = not any(map(_has_graph, model.graph.node)) and not _foreign(model)
        typed = inferred(model, strict=strict)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        first = first_line(error).rpartition("error(s): ")[2]
        raise ModelError(f"the model's shapes do not fit together: {first}") from error
    shapes = {}
    graph = typed.graph
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
            if math.prod(shapes[value.name]) > MOST_OF_ALL:
                many = f"{math.prod(shapes[value.name]):,}"
                raise ModelError(f"the tensor `{value.name}` would hold {many} elements; refused")
    return shapes


def _foreign(model: onnx.ModelProto) -> bool:
    """Whether a node is neither the standard's nor one of the model's own functions."""
    own = {(f.domain, f.name) for f in model.functions}
    nodes = model.graph.node
    return any(n.domain not in ("", "ai.onnx") and (n.domain, n.op_type) not in own for n in nodes)


_UNFOLDED = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
}


def fold(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], run: Run
) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """Replace nodes whose inputs are all constant, until no new one is found.

    A shape that is known while nothing has run counts as constant, so that what exporters compute
    around a ``Reshape`` disappears.
    """
    while True:
        known = {t.name for t in model.graph.initializer}
        made: list[onnx.NodeProto] = []
        kept: list[onnx.NodeProto] = []
        values: dict[str, Array] = {}
        for node in model.graph.node:
            if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
                values[node.output[0]] = _shape_of(node, shapes[node.input[0]])
                known.add(node.output[0])
            elif _foldable(node, known, shapes):
                made.append(node)
                known.update(node.output)
            else:
                kept.append(node)
        if not made and not values:
            return model, shapes
        model = _with_constants(model, made, kept, values, run)
        shapes = infer(model)


def _shape_of(node: onnx.NodeProto, shape: tuple[int, ...]) -> Array:
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    a = {x.name: x.i for x in node.attribute}
    return np.array(shape[a.get("start", 0) : a.get("end", len(shape))], np.int64)


def _has_graph(node: onnx.NodeProto) -> bool:
    return any(a.HasField("g") for a in node.attribute)


def _foldable(node: onnx.NodeProto, known: set[str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if node.op_type in _UNFOLDED or _has_graph(node):
        return False
    if not all(t in known for t in node.input if t):
        return False
    for name in node.output:
        size = math.prod(shapes.get(name, ()))
        if size > MOST_ELEMENTS:
            where = f"{node.op_type} (node `{node.name}`)"
            raise ModelError(f"{where} makes a constant of {size:,} elements; refused")
        if name and name not in shapes and node.op_type != "Constant":
            return False  # of unknown size: left to the runtime, which has its own bounds
    return True


def _with_constants(
    model: onnx.ModelProto,
    made: list[onnx.NodeProto],
    kept: list[onnx.NodeProto],
    values: dict[str, Array],
    run: Run,
) -> onnx.ModelProto:
    read = {t for node in kept for t in reads(node)} | {v.name for v in model.graph.output}
    wanted = [t for node in made for t in node.output if t and t in read]
    if wanted:
        values = values | dict(
            zip(wanted, run(_part(model, made, values, wanted), {}, wanted), strict=True)
        )
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in values.items() if name in read
    )
    weightless.drop_unread(model)
    return model


def _part(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], values: dict[str, Array], wanted: list[str]
) -> onnx.ModelProto:
    """Return a model of the constant nodes alone."""
    part = weightless.without(model, {t.name for t in model.graph.initializer})
    read = {t for node in nodes for t in node.input}
    graph = part.graph
    kept = [t for t in model.graph.initializer if t.name in read]
    for field in (graph.node, graph.input, graph.output, graph.value_info):
        del field[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items() if n in read)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return part
