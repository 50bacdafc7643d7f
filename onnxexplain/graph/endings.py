"""The softmax or sigmoid that a model may end in, and the tensor of scores before it."""

from dataclasses import replace

from onnxexplain.graph.node import Node

_ENDS = {
    "Softmax": "Softmax",
    "LogSoftmax": "LogSoftmax",
    "Sigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
    "QLinearSigmoid": "Sigmoid",
}
_TRANSFORMS = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}


def before(tensor: str) -> str:
    """Return the name of the scores behind which a node squashes them to ``tensor`` itself.

    No tensor of the user's file holds them; the lowered model has them under this name.
    """
    return f"{tensor}/scores"


def ends_in(node: Node) -> Node | None:
    """Return a softmax or sigmoid as a node of its own; None where ``node`` is, or holds, none."""
    if node.op_type in _ENDS:
        return replace(node, op_type=_ENDS[node.op_type])
    if node.op_type == "LinearClassifier":
        end = _TRANSFORMS.get(node.attributes.get("post_transform", "NONE"), "")
        if end == "Softmax" and len(node.attributes.get("intercepts", ())) == 1:
            return None  # of one score, which ONNX Runtime leaves as it is
        tensor = (*node.outputs, "")[1]
    else:
        end, tensor = node.attributes.get("activation", ""), node.outputs[0]
    if end not in _ENDS.values() or not tensor:
        return None
    return Node(node.name, end, "", (before(tensor),), (tensor,))
