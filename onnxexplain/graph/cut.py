"""A model cut at a tensor: the part behind it, to be fed with other values of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxexplain.graph.node import Node


def behind(nodes: Sequence[Node], tensor: str, output: str) -> list[Node]:
    """Return the nodes on the way from ``tensor`` to ``output``, in their order."""
    reached, after = {tensor}, []
    for node in nodes:
        if not reached.isdisjoint(node.reads):
            after.append(node)
            reached.update(t for t in node.outputs if t)
    needed, kept = {output}, []
    for node in reversed(after):
        if not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(t for t in node.reads if t)
    return kept[::-1]


def fed(nodes: Sequence[Node], inputs: Iterable[str], tensor: str, output: str) -> list[str]:
    """Return the tensors that the part behind ``tensor`` reads and does not make, no constants.

    Besides ``tensor``, the first, they are of branches that run past it, or inputs of the model.
    """
    part = behind(nodes, tensor, output)
    made = {t for node in part for t in node.outputs}
    known = {t for node in nodes for t in node.outputs} | set(inputs)  # not of a graph inside
    read = [t for node in part for t in node.reads if t in known and t not in made]
    return list(dict.fromkeys([tensor, *(t for t in read if t)]))


def cut(
    proto: onnx.ModelProto,
    part: Sequence[Node],
    dtypes: Mapping[str, np.dtype[Any]],
    output: str,
) -> onnx.ModelProto:
    """Return ``part`` of a model as a model that makes ``output`` of the inputs ``dtypes``."""
    wanted = {t for node in part for t in node.outputs if t}
    used = {t for node in part for t in node.reads}
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph, held = made.graph, proto.graph
    for field in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        del field[:]
    graph.node.extend(node for node in held.node if not wanted.isdisjoint(node.output))
    graph.initializer.extend(t for t in held.initializer if t.name in used)
    for name, dtype in dtypes.items():
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        graph.input.append(helper.make_tensor_value_info(name, kind, None))
    graph.output.append(onnx.ValueInfoProto(name=output))
    return made
