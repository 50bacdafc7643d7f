"""Operators over positions where ONNX's reference is wrong, or computes in float32 only.

They are run by the words that the way back is written in. Where the runtime and the reference
differ, the runtime is right: it is what runs the model.

- AffineGrid, GridSample, DeformConv: places in float32; GridSample moves a place to the edge before
  the cubic kernel is laid around it, where the runtime moves what the kernel reads.
- ConvTranspose: its groups take the wrong weights.
- GlobalLpPool, MaxRoiPool: there are none.
- LpPool: windows that overhang, and pads that are not symmetric.
- MaxUnpool: with an output shape its indices count in another shape.
- Resize: coordinates in float64 fall on the other side of a tie. RoiAlign: so does the number of
  samples.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from onnxexplain.graph import inference_form
from onnxexplain.graph.folding import infer
from onnxexplain.ops import find
from onnxexplain.tensor import Arrays, Window


def _by_words(op_type: str) -> type[OpRun]:
    """Return the kernel that runs an operator's own ``forward`` on NumPy arrays."""

    def run(self: OpRun, *inputs: Any, **said: Any) -> tuple[Any]:
        operator = find("", op_type)
        if operator is None or operator.forward is None:
            raise LookupError(op_type)
        given = {name: value for name, value in said.items() if value is not None}
        return (operator.forward(Arrays(np), *inputs, **given),)

    return type(op_type, (OpRun,), {"_run": run, "__doc__": f"{op_type}, by words."})


class MaxUnpool(OpRun):
    """Each element at the place its index names in the output."""

    def _run(self, x, indices, output_shape=None, kernel_shape=None, pads=None, strides=None):  # type: ignore[no-untyped-def]
        window = Window.of(kernel_shape, strides, None, pads)
        rank, reach = window.rank, zip(x.shape[2:], window.strides, window.reach, strict=True)
        sizes = [
            (n - 1) * s + k - window.pads[i] - window.pads[rank + i]
            for i, (n, s, k) in enumerate(reach)
        ]
        y = np.zeros((*x.shape[:2], *sizes) if output_shape is None else output_shape, x.dtype)
        y.reshape(-1)[indices.reshape(-1)] = x.reshape(-1)
        return (y,)


_WORDS = (
    "AffineGrid ConvTranspose DeformConv GlobalLpPool GridSample LpPool MaxRoiPool Resize RoiAlign"
)

SPATIAL: list[Any] = [MaxUnpool, *map(_by_words, _WORDS.split())]


def padded(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> onnx.ModelProto:
    """Return a model that says its pads: the kernels here know no ``auto_pad``."""
    if not any(a.name == "auto_pad" for node in proto.graph.node for a in node.attribute):
        return proto
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    inference_form.weights_out_of_inputs(model)
    inference_form.fix_sizes(model, {name: value.shape for name, value in feeds.items()})
    inference_form.resolve_auto_pad(model, infer(model))
    return model
