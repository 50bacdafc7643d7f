"""A lowered model that tells what it left to its data: branches taken, steps run."""

from collections.abc import Collection
from dataclasses import replace

import onnx
from onnx import helper

from onnxexplain.graph.lower import Lowered


def waiting(lowered: Lowered, output: str) -> tuple[str, ...]:
    """Return the nodes that wait for the data and that ``output`` depends on."""
    needed, found = {output}, []
    for node in reversed(lowered.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.reads)
            if node.name in lowered.undecided:
                found.append(node.name)
    return tuple(found)


def watched(lowered: Lowered, names: Collection[str]) -> tuple[Lowered, dict[str, str]]:
    """Return the model and, by node, a tensor of it that tells what the data decides.

    Of an If that is its condition, of a Loop how many steps it ran, of a sequence the position.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(lowered.proto)
    tensors, counts = {}, []
    for node in proto.graph.node:
        if node.name in names and node.op_type == "Loop":
            tensors[node.name] = f"{node.name}/count"
            made = [_collected(node)], [tensors[node.name]], tensors[node.name]
            counts.append(helper.make_node("Size", *made))
        elif node.name in names:
            tensors[node.name] = node.input[0] if node.op_type == "If" else node.input[-1]
    proto.graph.node.extend(counts)
    return replace(lowered, proto=proto), tensors


def _collected(node: onnx.NodeProto) -> str:
    """Make a loop collect the number of each of its steps; return the vector's name."""
    body = next(a.g for a in node.attribute if a.name == "body")
    made = f"{node.name}/steps"
    body.node.append(helper.make_node("Identity", [body.input[0].name], [made], made))
    body.output.append(helper.make_tensor_value_info(made, onnx.TensorProto.INT64, None))
    missing = len(body.output) - 2 - len(node.output)  # outputs at the end that nobody reads
    node.output.extend([*[""] * missing, made])
    return made
