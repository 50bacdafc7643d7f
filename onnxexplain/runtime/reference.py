"""The model in float64, which no provider runs whole: ONNX's own reference, with a faster Conv."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as AnyMaxPool
from onnx.reference.ops.op_pad import Pad_18 as AnyPad

from onnxexplain.errors import ModelError, OnnxExplainError, first_line
from onnxexplain.graph.spelled.quantised import dequantised
from onnxexplain.runtime.reference_norms import NORMS
from onnxexplain.runtime.reference_spatial import SPATIAL, padded
from onnxexplain.tensor import Arrays, Window
from onnxexplain.tensor.array_windows import window_counts

Array = np.ndarray[Any, Any]


class Conv(OpRun):
    """Convolution by one matrix product per kernel position."""

    def _run(  # type: ignore[no-untyped-def]
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=1,
        kernel_shape=None,
        pads=None,
        strides=None,
    ):
        window = Window.of(w.shape[2:], strides, dilations, pads)
        return (Arrays(np).conv(x, w, b, window, group or 1),)


class MaxPool(AnyMaxPool):
    """Pooling over a view of all windows; ONNX's own mixes up pads that are not symmetric."""

    def _run(  # type: ignore[no-untyped-def, override]
        self,
        x,
        auto_pad=None,
        ceil_mode=None,
        dilations=None,
        kernel_shape=None,
        pads=None,
        storage_order=None,
        strides=None,
    ):
        if len(self.onnx_node.output) > 1:  # with indices
            return self._max_pool(  # type: ignore[no-untyped-call]
                x, auto_pad, ceil_mode, dilations, kernel_shape, pads, storage_order, strides
            )
        window = Window.of(kernel_shape, strides, dilations, pads)
        seen = _windows(x, window, bool(ceil_mode), -np.inf)
        return (seen.max(axis=tuple(range(-window.rank, 0))),)


class AveragePool(OpRun):
    """Pooling over a view of all windows; ONNX's own loses a window that starts in the padding."""

    def _run(  # type: ignore[no-untyped-def]
        self,
        x,
        auto_pad=None,
        ceil_mode=None,
        count_include_pad=None,
        dilations=None,
        kernel_shape=None,
        pads=None,
        strides=None,
    ):
        window = Window.of(kernel_shape, strides, dilations, pads)
        seen = _windows(x, window, bool(ceil_mode), 0.0)
        sizes = seen.shape[2 : 2 + window.rank]
        counts = window_counts(x.shape[2:], sizes, window, bool(count_include_pad))
        total = seen.sum(axis=tuple(range(-window.rank, 0)))
        divisor = functools.reduce(np.multiply.outer, map(np.asarray, counts))
        return (total / divisor.astype(x.dtype),)


def _windows(x: Array, window: Window, ceil: bool, fill: float) -> Array:
    """Return a view [N,C,*positions,*kernel] of every window, what lies outside being ``fill``."""
    rank, reach, strides = window.rank, window.reach, window.strides
    spare = []
    for axis, n in enumerate(x.shape[2:]):
        begin, end = window.pads[axis], window.pads[rank + axis]
        steps, left = divmod(n + begin + end - reach[axis], strides[axis])
        if ceil and left and (steps + 1) * strides[axis] < n + begin:
            end += strides[axis] - left
        spare.append((begin, end))
    padded = np.pad(x, [(0, 0), (0, 0), *spare], constant_values=fill)
    axes = tuple(range(2, 2 + rank))
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    every = (1, 1, *strides, *window.dilations)
    return view[tuple(slice(None, None, step) for step in every)]


class Pad(AnyPad):
    """ONNX's own, which knows nothing of negative pads: they crop."""

    def _run(self, data, pads, constant_value=None, axes=None, mode=None):  # type: ignore[no-untyped-def]
        places = range(data.ndim) if axes is None else axes
        cut = [slice(None)] * data.ndim
        for i, axis in enumerate(places):
            begin, end = min(pads[i], 0), min(pads[len(places) + i], 0)
            cut[axis] = slice(-begin, data.shape[axis] + end)
        rest = data[tuple(cut)], np.maximum(pads, 0), constant_value, axes, mode
        return super()._run(*rest)  # type: ignore[no-untyped-call]


_erf = np.vectorize(math.erf, otypes=[np.float64])


class Erf(OpRun):
    """The error function; ONNX's own gives float32 whatever comes in."""

    def _run(self, x):  # type: ignore[no-untyped-def]
        return (_erf(x).astype(x.dtype),)


class Gelu(OpRun):
    """The Gaussian error linear unit; ONNX's own goes through its Erf."""

    def _run(self, x, approximate=None):  # type: ignore[no-untyped-def]
        if approximate == "tanh":
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return ((0.5 * x * (1 + np.tanh(inner))).astype(x.dtype),)
        return ((0.5 * x * (1 + _erf(x / math.sqrt(2)))).astype(x.dtype),)


class Mean(OpRun):
    """The mean of terms that broadcast, which ONNX's own do not."""

    def _run(self, *terms):  # type: ignore[no-untyped-def]
        return (sum(terms[1:], terms[0]) / len(terms),)


class DequantizeLinear(OpRun):
    """What numbers stand for; ONNX's own knows no opset before 19, and goes through float32."""

    def _run(self, x, scale, zero=None, axis=None, block_size=None, output_dtype=None):  # type: ignore[no-untyped-def]
        axis = 1 if axis is None else axis
        return (dequantised(x, scale, zero, axis, block_size or 0, scale.dtype),)


NEW_OPS: list[Any] = [
    Conv,
    MaxPool,
    AveragePool,
    Pad,
    Erf,
    Gelu,
    Mean,
    DequantizeLinear,
    *SPATIAL,
    *NORMS,
]


def evaluate(
    proto: onnx.ModelProto, feeds: Mapping[str, Array], tensors: Sequence[str]
) -> dict[str, Array]:
    """Run a model on ONNX's reference implementation and return the named tensors."""
    try:
        evaluator = ReferenceEvaluator(padded(proto, feeds), new_ops=NEW_OPS)
        with np.errstate(all="ignore"):  # a row masked whole is NaN for a while
            found: Any = evaluator.run(None, dict(feeds), intermediate=True)
    except OnnxExplainError:
        raise
    except Exception as error:  # an interpreter in Python: a damaged file makes it say anything
        raise ModelError(f"ONNX's reference cannot run the model: {first_line(error)}") from error
    return {name: np.asarray(feeds[name] if name in feeds else found[name]) for name in tensors}
