"""A model cut at a tensor: the part behind it, to be fed with other values of it."""

from collections.abc import Mapping, Sequence
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


def fed(part: Sequence[Node], tensor: str) -> list[str]:
    """Return what the nodes behind ``tensor`` read and do not make, constants among it.

    Besides ``tensor``, the first, these are tensors of branches that run past it.
    """
    made = {t for node in part for t in node.outputs}
    read = [t for node in part for t in node.reads if t and t not in made]
    return list(dict.fromkeys([tensor, *read]))


def cut(
    proto: onnx.ModelProto,
    part: Sequence[Node],
    dtypes: Mapping[str, np.dtype[Any]],
    output: str,
) -> onnx.ModelProto:
    """Return ``part`` of a model as a model: its inputs are ``dtypes``, its output is ``output``."""
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
