"""The form a model has when nothing is trained, with everything said that it leaves to defaults."""

from collections.abc import Mapping

import onnx


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
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def without_training(model: onnx.ModelProto) -> None:
    """Dropout lets everything through when nothing is trained."""
    for node in model.graph.node:
        if node.op_type == "Dropout" and node.domain in ("", "ai.onnx"):
            node.op_type = "Identity"
            del node.input[1:]
            del node.output[1:]
            del node.attribute[:]


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
            if name not in given and default.type == onnx.AttributeProto.FLOAT:
                node.attribute.append(default)


def resolve_auto_pad(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
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
