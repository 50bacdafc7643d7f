"""The model in float64, which no provider runs whole: ONNX's own reference, with a faster Conv."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as AnyMaxPool

from onnxexplain.errors import ModelError
from onnxexplain.tensor import Arrays, Window

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
    """ONNX's own, without its short cut, which mixes up pads that are not symmetric."""

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
        return self._max_pool(  # type: ignore[no-untyped-call]
            x, auto_pad, ceil_mode, dilations, kernel_shape, pads, storage_order, strides
        )


def evaluate(
    proto: onnx.ModelProto, feeds: Mapping[str, Array], tensors: Sequence[str]
) -> dict[str, Array]:
    """Run a model on ONNX's reference implementation and return the named tensors."""
    try:
        evaluator = ReferenceEvaluator(proto, new_ops=[Conv, MaxPool])
        found: Any = evaluator.run(None, dict(feeds), intermediate=True)
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0]
        raise ModelError(f"the float64 reference cannot run the model: {line}") from error
    return {name: np.asarray(feeds[name] if name in feeds else found[name]) for name in tensors}
