"""The model in the form that rules are written for, every tensor under the user's own name.

In order: functions inlined, weights out of the inputs, sizes fixed to those of the data at hand,
floats brought to one type, the opset raised, inference form taken (dropout is an identity),
``auto_pad`` resolved, constants folded. The result computes what the user's file computes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, numpy_helper, version_converter

from onnxexplain.errors import ModelError, OnnxExplainError
from onnxexplain.graph.node import Node, array, read_nodes, reads

Array = np.ndarray[Any, Any]
Run = Callable[[onnx.ModelProto, dict[str, Array], list[str]], list[Array]]
"""Runs a model on feeds and returns the named outputs."""

OPSET = 18
"""The oldest opset whose operators the rules and the appended nodes are written for."""

MOST_ELEMENTS = 1 << 28
"""A tensor folded while lowering may hold this many elements; a file must not fill the memory."""

MOST_OF_ALL = 1 << 32
"""Any tensor may hold this many elements."""

_FLOATS: set[int] = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
}


@dataclass(frozen=True)
class Lowered:
    """A lowered model: the file to run, its nodes, its constants, the shape of every tensor."""

    proto: onnx.ModelProto
    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    floats: frozenset[str]
    changed: tuple[str, ...]
    """What was done that could change a result: the reason to check it against the file."""


def lower(
    proto: onnx.ModelProto,
    sizes: Mapping[str, tuple[int, ...]],
    run: Run,
    dtype: str = "float32",
    newest: tuple[int, int] | None = None,
) -> Lowered:
    """Lower ``proto`` for inputs of the given ``sizes``.

    Parameters
    ----------
    sizes
        the shape of every input, batch included.
    run
        runs a small model; used to fold constants.
    dtype
        the float type of everything: ``float32``, or ``float64`` to check with.
    newest
        opset and IR version beyond which the runtime loads nothing.

    Raises
    ------
    ModelError
        if the file is inconsistent, or a constant of it would fill the memory.
    """
    try:
        return _lower(proto, sizes, run, dtype, newest)
    except OnnxExplainError:
        raise
    except (ValueError, TypeError, RuntimeError, LookupError, MemoryError) as error:
        # Whatever a damaged file makes onnx or protobuf say.
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the model is inconsistent ({line})") from error


def _lower(
    proto: onnx.ModelProto,
    sizes: Mapping[str, tuple[int, ...]],
    run: Run,
    dtype: str,
    newest: tuple[int, int] | None,
) -> Lowered:
    changed = []
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for node, read in zip(model.graph.node, read_nodes(model.graph), strict=True):
        node.name = read.name  # the name a nameless node has in the user's own graph
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
        changed.append("functions inlined")
    _weights_out_of_inputs(model)
    _fix_sizes(model, sizes)
    if _retype(model, dtype):
        changed.append(f"floats as {dtype}")
    model, raised = _raise_opset(model)
    changed += raised
    if newest is not None:
        model = within(model, newest)
    _inference_form(model)
    _spell_defaults(model)
    shapes = _infer(model)
    _resolve_auto_pad(model, shapes)
    model, shapes = _fold(model, shapes, run)
    constants = {t.name: array(t) for t in model.graph.initializer}
    shapes |= {name: value.shape for name, value in constants.items()}
    floats = _float_tensors(model)
    return Lowered(model, read_nodes(model.graph), constants, shapes, floats, tuple(changed))


# ----- Inputs -----


def _weights_out_of_inputs(model: onnx.ModelProto) -> None:
    weights = {t.name for t in model.graph.initializer}
    kept = [v for v in model.graph.input if v.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 8)


def _fix_sizes(model: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Write the sizes at hand into the inputs, and forget what the file says of later ones."""
    for value in model.graph.input:
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for size in sizes[value.name]:
            shape.dim.add().dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


# ----- Types -----


def _retype(model: onnx.ModelProto, dtype: str) -> bool:
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
        for a in node.attribute:
            if a.HasField("t"):
                found.append(_retype_tensor(a.t, to, others))
            elif a.HasField("g"):
                found += _retype_graph(a.g, to, others)
            elif a.name in ("to", "dtype") and a.i in others:
                a.i = to
                found.append(True)
    return found


def _retype_tensor(tensor: onnx.TensorProto, to: int, others: set[int]) -> bool:
    if tensor.data_type not in others:
        return False
    wide = onnx.helper.tensor_dtype_to_np_dtype(to)
    tensor.CopyFrom(numpy_helper.from_array(array(tensor).astype(wide), tensor.name))
    return True


# ----- Opset -----


def _raise_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Raise the default domain to the opset the rules are written for, where it is older."""
    entry = next((o for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if entry is None:
        entry = model.opset_import.add(domain="", version=OPSET)
    if entry.version >= OPSET:
        return model, []
    old = entry.version
    try:
        model = version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the model's opset {old} cannot be raised to {OPSET} ({reason}); "
            "export it again with a newer opset"
        ) from error
    return model, [f"opset {old} raised to {OPSET}"]


def within(proto: onnx.ModelProto, newest: tuple[int, int]) -> onnx.ModelProto:
    """Return a model newer than the runtime in an opset and IR version that it loads.

    Where every operator of it already stood as it is in that opset, only the stamp changes.

    Raises
    ------
    ModelError
        if it uses what came later, naming the node.
    """
    opset, ir = newest
    entry = next((o for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    version = entry.version if entry is not None else 0
    if version <= opset and proto.ir_version <= ir:
        return proto
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    model.ir_version = min(model.ir_version, ir)
    for node in read_nodes(model.graph) if version > opset else ():
        if node.domain or not onnx.defs.has(node.op_type):
            continue
        known = min(version, onnx.defs.onnx_opset_version())
        since = onnx.defs.get_schema(node.op_type, known).since_version
        if since > opset:
            raise ModelError(
                f"{node} is of opset {since}; the installed ONNX Runtime knows {opset}; "
                "install a newer one, or export with an older opset"
            )
    for stamp in model.opset_import:
        if stamp.domain in ("", "ai.onnx"):
            stamp.version = min(stamp.version, opset)
    return model


# ----- Inference form -----


def _inference_form(model: onnx.ModelProto) -> None:
    """Dropout lets everything through when nothing is trained."""
    for node in model.graph.node:
        if node.op_type == "Dropout" and node.domain in ("", "ai.onnx"):
            node.op_type = "Identity"
            del node.input[1:]
            del node.output[1:]
            del node.attribute[:]


def _spell_defaults(model: onnx.ModelProto) -> None:
    """Write the floats that a node leaves to the standard: its 0.01 is float32's, not Python's."""
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    opset = min(opset, onnx.defs.onnx_opset_version())
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opset, ""):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset)
        given = {a.name for a in node.attribute}
        for name, attribute in schema.attributes.items():
            default = attribute.default_value
            if name not in given and default.type == onnx.AttributeProto.FLOAT:
                node.attribute.append(default)


def _resolve_auto_pad(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write pads where the file says SAME or VALID, so that no rule meets ``auto_pad``."""
    weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
    for node in model.graph.node:
        attributes = {a.name: a for a in node.attribute}
        mode = attributes["auto_pad"].s.decode() if "auto_pad" in attributes else "NOTSET"
        if "auto_pad" in attributes:
            node.attribute.remove(attributes["auto_pad"])
        if mode == "NOTSET" or node.op_type == "ConvTranspose":
            if mode != "NOTSET":
                node.attribute.append(onnx.helper.make_attribute("auto_pad", mode))
            continue
        spatial = shapes[node.input[0]][2:]
        kernel = _ints(attributes, "kernel_shape") or list(
            (weights | dict(shapes))[node.input[1]][2:]
        )
        pads = [0] * (2 * len(spatial))
        if mode != "VALID":
            strides = _ints(attributes, "strides") or [1] * len(spatial)
            dilations = _ints(attributes, "dilations") or [1] * len(spatial)
            pads = _same(spatial, kernel, strides, dilations, upper=mode == "SAME_UPPER")
        if "pads" in attributes:
            node.attribute.remove(attributes["pads"])
        node.attribute.append(onnx.helper.make_attribute("pads", pads))


def _ints(attributes: Mapping[str, onnx.AttributeProto], name: str) -> list[int]:
    return list(attributes[name].ints) if name in attributes else []


def _same(
    sizes: tuple[int, ...],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    *,
    upper: bool,
) -> list[int]:
    begins, ends = [], []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if upper else large)
        ends.append(large if upper else small)
    return begins + ends


# ----- Shapes and constants -----


def _infer(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0].rpartition("error(s): ")[2]
        raise ModelError(f"the model's shapes do not fit together: {first}") from error
    shapes = {}
    graph = inferred.graph
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
            if math.prod(shapes[value.name]) > MOST_OF_ALL:
                many = f"{math.prod(shapes[value.name]):,}"
                raise ModelError(f"the tensor `{value.name}` would hold {many} elements; refused")
    return shapes


_UNFOLDED = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
}


def _fold(
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
        shapes = _infer(model)


def _shape_of(node: onnx.NodeProto, shape: tuple[int, ...]) -> Array:
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    a = {x.name: x.i for x in node.attribute}
    return np.array(shape[a.get("start", 0) : a.get("end", len(shape))], np.int64)


def _foldable(node: onnx.NodeProto, known: set[str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if node.op_type in _UNFOLDED or any(a.HasField("g") for a in node.attribute):
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
    held = [t for t in model.graph.initializer if t.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(held)
    return model


def _part(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], values: dict[str, Array], wanted: list[str]
) -> onnx.ModelProto:
    """Return a model of the constant nodes alone."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    read = {t for node in nodes for t in node.input}
    graph = part.graph
    kept = [t for t in graph.initializer if t.name in read]
    for field in (graph.node, graph.input, graph.output, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items() if n in read)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return part


def _float_tensors(model: onnx.ModelProto) -> frozenset[str]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = inferred.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    floats = {v.name for v in values if v.type.tensor_type.elem_type in _FLOATS}
    return frozenset(floats | {t.name for t in graph.initializer if t.data_type in _FLOATS})
