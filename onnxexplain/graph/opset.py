"""The opset: raised where it is older than the rules, stamped down where the runtime is older."""

import onnx
from onnx import version_converter

from onnxexplain.errors import ModelError
from onnxexplain.graph.node import read_nodes

OPSET = 18
"""The oldest opset whose operators the rules and the appended nodes are written for."""


def raise_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
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
