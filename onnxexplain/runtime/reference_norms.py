"""Normalisations for ONNX's reference: those it has not, and those it gets wrong."""

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

Array = np.ndarray[Any, Any]


def _standard(x: Array, axis: Any, epsilon: float) -> Array:
    """``x`` less its mean, over its deviation."""
    centred = x - x.mean(axis=axis, keepdims=True)
    variance = (centred * centred).mean(axis=axis, keepdims=True)
    standard: Array = centred / np.sqrt(variance + epsilon)
    return standard


class LayerNormalization(OpRun):
    """In the type of its input; ONNX's own refuses to be told so."""

    def _run(self, x, scale, bias=None, axis=None, epsilon=None, stash_type=None):  # type: ignore[no-untyped-def]
        axes = tuple(range((-1 if axis is None else axis) % x.ndim, x.ndim))
        mean = x.mean(axis=axes, keepdims=True)
        centred = x - mean
        variance = (centred * centred).mean(axis=axes, keepdims=True)
        inverse = 1 / np.sqrt(variance + (1e-5 if epsilon is None else epsilon))
        y = centred * inverse * scale
        y = y if bias is None else y + bias
        return tuple(v.astype(x.dtype) for v in (y, mean, inverse))


class GroupNormalization(OpRun):
    """By its definition, but in the type of its input; a parameter per channel or per group."""

    def _run(self, x, scale, bias, epsilon=None, num_groups=None, stash_type=None):  # type: ignore[no-untyped-def]
        grouped = x.reshape(x.shape[0], num_groups, -1)
        n = _standard(grouped, 2, epsilon).reshape(x.shape)
        column = (-1, *(1,) * (x.ndim - 2))
        wide = [np.repeat(v, x.shape[1] // v.shape[0]).reshape(column) for v in (scale, bias)]
        return ((n * wide[0] + wide[1]).astype(x.dtype),)


class MeanVarianceNormalization(OpRun):
    """By its definition, the variance taken of what is centred."""

    def _run(self, x, axes=None):  # type: ignore[no-untyped-def]
        axis = tuple(axes or (0, 2, 3))
        centred = x - x.mean(axis=axis, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=axis, keepdims=True))
        return ((centred / (deviation + 1e-9)).astype(x.dtype),)


class LpNormalization(OpRun):
    """ONNX's own adds up the elements, not their absolute values, where ``p`` is 1."""

    def _run(self, x, axis=None, p=None):  # type: ignore[no-untyped-def]
        length = np.linalg.norm(x, ord=p, axis=-1 if axis is None else axis, keepdims=True)
        return ((x / np.where(length > 0, length, 1)).astype(x.dtype),)


class LRN(OpRun):
    """ONNX's own normalises as many channels as there are samples."""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):  # type: ignore[no-untyped-def]
        sides = [(0, 0)] * x.ndim
        sides[1] = (size - 1) // 2, size // 2
        seen = np.lib.stride_tricks.sliding_window_view(np.pad(x * x, sides), size, axis=1)
        divisor = bias + float(alpha) / size * seen.sum(axis=-1)
        return ((x / divisor**beta).astype(x.dtype),)


NORMS = [LayerNormalization, GroupNormalization, MeanVarianceNormalization, LpNormalization, LRN]
