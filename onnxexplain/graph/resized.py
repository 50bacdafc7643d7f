"""Resized lengths, which the runtime rounds in float32 and the standard's inference does not."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from onnxexplain.graph.node import array


def say_sizes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Write, in place, the sizes of the first Resize whose scales the two round apart.

    Returns whether there was one: the shapes behind it are then other ones. 1.4 times 5 is 7 to the
    runtime, and 6 to the inference, to which the float32 next to 1.4 is too small.
    """
    held = constants(model.graph)
    for node in model.graph.node:
        given = node.op_type == "Resize" and not node.domain and len(node.input) > 2
        if not given or node.input[2] not in held or node.input[0] not in shapes:
            continue
        shape, scales = shapes[node.input[0]], array(held[node.input[2]]).reshape(-1)
        said = {a.name: a for a in node.attribute}
        axes = list(said["axes"].ints) if "axes" in said else list(range(len(shape)))
        if len(scales) != len(axes) or len(axes) > len(shape):
            continue  # sizes are given instead; or the node does not fit its input
        old = np.array([shape[a] for a in axes])
        runs = np.floor(scales.astype(np.float32) * old.astype(np.float32))
        if np.array_equal(runs, np.floor(scales.astype(np.float64) * old)):
            continue
        name = f"{node.output[0]}/sizes"
        model.graph.initializer.append(numpy_helper.from_array(runs.astype(np.int64), name))
        inputs = [*node.input[:2], "", name]
        del node.input[:]
        node.input.extend(inputs)
        if "keep_aspect_ratio_policy" in said:
            node.attribute.remove(said["keep_aspect_ratio_policy"])
        return True
    return False


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the tensors that a graph holds, by name, whether as weights or as nodes."""
    held = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            held[node.output[0]] = node.attribute[0].t
    return held
