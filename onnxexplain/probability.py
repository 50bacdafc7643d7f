"""The probability that a model gives to each class."""

from typing import Any

import numpy as np

from onnxexplain.graph import Model
from onnxexplain.methods import way

Array = np.ndarray[Any, Any]


def probabilities(model: Model, output: str, scores: Array) -> Array:
    """Return the probability of every class, [N,K], where ``output`` holds ``scores`` [N,K,...].

    They are turned into probabilities as the file's own end does it, by a softmax or a sigmoid;
    where it has none, by a sigmoid if there is one score and a softmax if there are several.
    Scores that are probabilities already stay as they are. Of an output with positions it is the
    mean over them.
    """
    values = scores.astype(np.float64).reshape(*scores.shape[:2], -1)
    values = values if scores.ndim > 1 else values.reshape(-1, 1, 1)
    made = way.ending(model, output)
    if made is None:
        kind = _follows(model, output)
        if kind == "Sigmoid" or (not kind and values.shape[1] == 1):
            values = np.exp(-np.logaddexp(0, -values))
        else:
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
    elif made.op_type == "LogSoftmax":
        values = np.exp(values)
    return np.asarray(values.mean(axis=-1))


def independent(model: Model, output: str) -> bool:
    """Whether each class has a probability of its own: behind a sigmoid any number may be there."""
    made = way.ending(model, output)
    return (_follows(model, output) if made is None else made.op_type) == "Sigmoid"


def _follows(model: Model, output: str) -> str:
    """Return the operator that makes probabilities of ``output`` at the file's end, if any."""
    ends = [end for name in model.outputs if (end := way.ending(model, name)) is not None]
    return next((end.op_type for end in ends if end.inputs[0] == output), "")
