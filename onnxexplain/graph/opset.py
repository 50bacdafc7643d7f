"""The opset: raised where it is older than the rules, stamped down where the runtime is older."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, version_converter

from onnxexplain.errors import ModelError, first_line
from onnxexplain.graph import old_scan, weightless
from onnxexplain.graph.node import array, read_nodes
from onnxexplain.graph.resized import constants
from onnxexplain.graph.spelled.quantised import quantised

OPSET = 18
"""The oldest opset whose operators the rules and the appended nodes are written for."""

NARROW_OPSET = 21
"""The same for models quantised to four or sixteen bits, which the standard has from here on, and
for quantised models in float64, which it has from 19 on."""

_NARROW = frozenset({TensorProto.INT4, TensorProto.UINT4, TensorProto.INT16, TensorProto.UINT16})

_SINCE = {
    "Gelu": 20,
    "BiasGelu": 20,
    "FastGelu": 20,
    "GemmFastGelu": 20,
    "BiasSplitGelu": 20,
    "GroupNorm": 21,
    "SkipGroupNorm": 21,
    "SimplifiedLayerNormalization": 23,
    "SkipSimplifiedLayerNormalization": 23,
}
"""The opset in which the standard has what ONNX Runtime's own operators are spelled out in."""

_MICROSOFT = "com.microsoft"


def raise_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Raise the default domain to the opset the rules are written for, where it is older."""
    _theirs(model)
    stamps = [o for o in model.opset_import if o.domain in ("", "ai.onnx")]
    lowest = max((OPSET, *(_SINCE.get(n.op_type, OPSET) for n in _microsofts(model.graph))))
    if _narrow(model.graph) or _quantised_wide(model.graph):
        lowest = max(lowest, NARROW_OPSET)
    old = max((o.version for o in stamps), default=lowest)
    others = [o for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", old), *others])  # said once
    if old >= lowest:
        return model, []
    scans, inputs = old_scan.found(model) if old < 9 else ([], [])
    try:
        # Nodes of other domains are left as they are.
        model = weightless.apply(lambda m: version_converter.convert_version(m, lowest), model)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"the model's opset {old} cannot be raised to {lowest} ({first_line(error)}); "
            "export it again with a newer opset"
        ) from error
    del model.graph.value_info[:]  # types as the old opset has them
    for value in model.graph.output:  # shapes as the converter's own inference has them
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    if scans:
        old_scan.by_sample(model, scans, inputs)
    if old < 11:
        _resize_as_before(model.graph)
    return model, [f"opset {old} raised to {lowest}"]


def _resize_as_before(graph: onnx.GraphProto) -> None:
    """Say what Upsample, and Resize before opset 11, meant: the converter leaves it to defaults.

    New position ``i`` was read at ``i / scale``, rounded down, or up where the tensor shrinks.
    """
    held = constants(graph)
    for node in graph.node:
        if node.op_type == "Resize":
            scales = array(held[node.input[2]]) if node.input[2] in held else ()
            shrinks = any(scale < 1 for scale in scales)
            said = {
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "ceil" if shrinks else "floor",
            }
            node.attribute.extend(helper.make_attribute(k, v) for k, v in said.items())


def _theirs(model: onnx.ModelProto) -> None:
    """Give ONNX Runtime's own operators their domain: some stand in that of the standard."""
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    known = min(version, onnx.defs.onnx_opset_version())
    moved = False
    for node in model.graph.node:
        theirs = node.op_type in ("LayerNormalization", "SimplifiedLayerNormalization")
        if theirs and node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, known, ""):
            node.domain, moved = _MICROSOFT, True
    if moved and not any(o.domain == _MICROSOFT for o in model.opset_import):
        model.opset_import.add(domain=_MICROSOFT, version=1)


def _microsofts(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield ONNX Runtime's own operators in a graph, and in those inside it."""
    for node in graph.node:
        if node.domain == _MICROSOFT:
            yield node
        for a in node.attribute:
            yield from _microsofts(a.g) if a.HasField("g") else ()


def _narrow(graph: onnx.GraphProto) -> bool:
    """Whether the zero points of a graph, or of one inside it, are of four or sixteen bits."""
    if any(t.data_type in _NARROW for t in graph.initializer):
        return True
    given = [a for node in graph.node for a in node.attribute]
    return any(a.t.data_type in _NARROW or (a.HasField("g") and _narrow(a.g)) for a in given)


def _quantised_wide(graph: onnx.GraphProto) -> bool:
    """Whether a quantised graph computes in float64."""
    wide = any(v.type.tensor_type.elem_type == TensorProto.DOUBLE for v in graph.input)
    return wide and any(quantised(n.domain, n.op_type) for n in graph.node)


WIDER = 22
"""In this opset operators took more types, and nothing else about them changed."""

_NARROWER = {"RoiAlign", "Bernoulli"}
"""Operators that the runtime has only as they were before that."""


def within(
    proto: onnx.ModelProto, newest: tuple[int, int], *, as_before: bool = False
) -> onnx.ModelProto:
    """Return a model newer than the runtime in an opset and IR version that it loads.

    Where every operator of it already stood as it is in that opset, only the stamp changes.
    With ``as_before`` an operator that was changed since is taken as it was then, mostly for fewer
    types: what comes out must be compared.

    Raises
    ------
    ModelError
        if it uses what came later, naming the node.
    """
    opset, ir = newest
    if any(node.op_type in _NARROWER and not node.domain for node in proto.graph.node):
        opset = min(opset, WIDER - 1)
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
        if as_before and onnx.defs.has(node.op_type, opset, ""):
            continue
        if since > opset and since != WIDER:
            raise ModelError(
                f"{node} is of opset {since}; the installed ONNX Runtime knows {opset}; "
                "install a newer one, or export with an older opset"
            )
    for stamp in model.opset_import:
        if stamp.domain in ("", "ai.onnx"):
            stamp.version = min(stamp.version, opset)
    return model
