"""The form a model has when nothing is trained, with everything said that it leaves to defaults."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import helper


def weights_out_of_inputs(model: onnx.ModelProto) -> None:
    """Keep as inputs only what is no weight: old files list both."""
    weights = {t.name for t in model.graph.initializer}
    kept = [v for v in model.graph.input if v.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 8)


def fix_sizes(model: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Write the sizes at hand into the inputs, and forget what the file says of later ones."""
    for value in model.graph.input:
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for size in sizes[value.name]:
            shape.dim.add().dim_value = size
    _forget_sizes(model.graph)


def _forget_sizes(graph: onnx.GraphProto, *, outputs: bool = True) -> None:
    """Leave it to inference how large is what a graph makes, and what branches inside it make."""
    for value in graph.output if outputs else ():
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):  # what a loop collects in no step is as large as it says
                _forget_sizes(a.g, outputs=node.op_type == "If")


def without_training(model: onnx.ModelProto) -> None:
    """Dropout lets everything through when nothing is trained."""
    for node in model.graph.node:
        if node.op_type == "Dropout" and node.domain in ("", "ai.onnx"):
            node.op_type = "Identity"
            del node.input[1:]
            del node.output[1:]
            del node.attribute[:]


def scalar_ranges(model: onnx.ModelProto) -> None:
    """Give every Range scalars: runtimes take a vector of one element too, inference does not."""
    nodes, found = [], False
    for node in model.graph.node:
        for slot, name in enumerate(node.input if node.op_type == "Range" else ()):
            scalar = f"{node.output[0]}/scalar_{slot}"
            shape = helper.make_tensor(f"{scalar}_shape", onnx.TensorProto.INT64, [0], [])
            model.graph.initializer.append(shape)
            nodes.append(helper.make_node("Reshape", [name, shape.name], [scalar], scalar))
            node.input[slot], found = scalar, True
        nodes.append(node)
    if found:
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del model.graph.node[:]
        model.graph.node.extend(copies)


_SPELLED = {("DFT", "axis"), ("STFT", "onesided")}
"""Numbers that are written too: one differs between opsets, one is forgotten by the inference."""


def spell_defaults(model: onnx.ModelProto) -> None:
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
            spelled = default.type == onnx.AttributeProto.FLOAT or (node.op_type, name) in _SPELLED
            if name not in given and spelled:
                node.attribute.append(default)


def resolve_auto_pad(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write pads where the file says SAME or VALID, so that no rule meets ``auto_pad``.

    A transposed convolution that says how large its output is is told how that comes about.
    """
    known = {t.name: tuple(t.dims) for t in model.graph.initializer} | dict(shapes)
    for node in model.graph.node:
        mode = next((a.s.decode() for a in node.attribute if a.name == "auto_pad"), "NOTSET")
        transposed = node.op_type == "ConvTranspose"
        if mode == "NOTSET" and not (transposed and _says(node, "output_shape")):
            _write(node, auto_pad=None)
        elif node.input[0] in known:
            said = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            sizes = known[node.input[0]][2:]
            kernel = said.get("kernel_shape") or known[node.input[1]][2:]
            resolve = _transposed if transposed else _direct
            _write(node, auto_pad=None, output_shape=None, **resolve(mode, sizes, kernel, said))


def _says(node: onnx.NodeProto, name: str) -> bool:
    return any(a.name == name for a in node.attribute)


def _write(node: onnx.NodeProto, **values: list[int] | None) -> None:
    """Set attributes of a node; None takes one away."""
    if not any(_says(node, name) or value for name, value in values.items()):
        return
    kept = [a for a in node.attribute if a.name not in values]
    kept += [onnx.helper.make_attribute(k, v) for k, v in values.items() if v is not None]
    copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend(copies)


def _direct(
    mode: str, sizes: tuple[int, ...], kernel: Sequence[int], said: Mapping[str, Any]
) -> dict[str, list[int] | None]:
    """The pads of a convolution or a pool."""
    ones = [1] * len(sizes)
    if mode == "VALID":
        return {"pads": [0] * (2 * len(sizes))}
    strides, dilations = said.get("strides", ones), said.get("dilations", ones)
    return {"pads": _same(sizes, kernel, strides, dilations, upper=mode == "SAME_UPPER")}


def _transposed(
    mode: str, sizes: tuple[int, ...], kernel: Sequence[int], said: Mapping[str, Any]
) -> dict[str, list[int] | None]:
    """The pads and output padding of a transposed convolution.

    Its output is as large as it says, or ``stride`` times the input where it says SAME; what is too
    much is cut off at both ends, what is missing added at the end.
    """
    rank = len(sizes)
    strides, dilations = said.get("strides", [1] * rank), said.get("dilations", [1] * rank)
    extra = list(said.get("output_padding", [0] * rank))
    begins, ends = [0] * rank, [0] * rank
    wanted = list(said.get("output_shape", ()))[-rank:]
    if not wanted and mode.startswith("SAME"):
        wanted = [n * s for n, s in zip(sizes, strides, strict=True)]
    for i, want in enumerate(wanted):
        full = strides[i] * (sizes[i] - 1) + (kernel[i] - 1) * dilations[i] + 1 + extra[i]
        total = max(full - want, 0)
        extra[i] += max(want - full, 0)
        small, large = total // 2, total - total // 2
        begins[i], ends[i] = (small, large) if mode == "SAME_UPPER" else (large, small)
    return {"pads": begins + ends, "output_padding": extra if any(extra) else None}


def _same(
    sizes: tuple[int, ...],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
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
