"""Types and shapes, told beforehand."""

import onnx
from onnx.shape_inference import InferenceError, infer_shapes

from onnxexplain.graph import weightless

_LIKE_THEIR_INPUT = {"GroupNormalization", "MeanVarianceNormalization"}
"""Operators that ONNX tells neither type nor shape of: what they give is like what they take."""


def inferred(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """Return the model with the type and shape of every tensor that they can be told of.

    Large weights are inputs of what is returned.

    Raises
    ------
    onnx.shape_inference.InferenceError
        if ``strict`` and shapes do not fit together.
    """
    model = weightless.standing_by(model)
    odd = [n for n in model.graph.node if n.op_type in _LIKE_THEIR_INPUT and not n.domain]
    if not odd:
        return _inferred(model, strict)
    stand_in = onnx.ModelProto()
    stand_in.CopyFrom(model)
    for node in stand_in.graph.node:
        if node.op_type in _LIKE_THEIR_INPUT and not node.domain:
            node.op_type = "Identity"
            del node.input[1:]
            del node.attribute[:]
    known = _inferred(stand_in, strict)
    del known.graph.node[:]
    known.graph.node.extend(model.graph.node)
    return known


def _inferred(model: onnx.ModelProto, strict: bool) -> onnx.ModelProto:
    try:
        return infer_shapes(model, data_prop=True, strict_mode=strict)
    except InferenceError:
        # Following small integers, ONNX takes each tensor of them for a vector: the difference of
        # a row and a column is an error to it. What is wrong indeed is wrong without them, too.
        return infer_shapes(model, strict_mode=strict)
