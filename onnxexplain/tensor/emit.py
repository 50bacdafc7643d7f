"""The words as ONNX nodes: each call writes what it says onto a tape."""

from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxexplain.tensor import emit_channels, emit_convolution, emit_pools
from onnxexplain.tensor.emit_elementwise import TapeElementwise
from onnxexplain.tensor.namespace import Window
from onnxexplain.tensor.symbol import Folded, Positive, Routed, Scaled, Symbol

Array = np.ndarray[Any, Any]


class Tape(TapeElementwise):
    """Collects the nodes that rules write; rules call it ``xp``.

    Parameters
    ----------
    prefix
        begins the name of every tensor written, so that none meets one of the user's.
    blocked
        write in the forms that the CPU provider keeps in its blocked (NCHWc) layout.
    ties
        who wins among equal elements of a max pool's window: ``first`` or ``share``.
    """

    def settled(self, x: Symbol) -> Symbol:
        origin = x.origin
        if isinstance(origin, Scaled):
            return emit_channels.scale_channels(self, origin.of, origin.by)
        if isinstance(origin, Routed):
            return emit_pools.route(self, origin)
        if isinstance(origin, Folded):
            part = origin.of if origin.times == 1 else origin.of * origin.times
            return self.op("Expand", part, self.ints(x.shape), shape=x.shape)
        if isinstance(origin, Positive):
            zero = self.constant(0, origin.of.dtype)
            return self.op("Greater", origin.of, zero, shape=x.shape, dtype=bool)
        raise LookupError(repr(x))

    # ----- sums and products -----

    def sum(self, x: Symbol, /, *, axis: Any, keepdims: bool = False) -> Symbol:
        return self._reduce("ReduceSum", x, axis, keepdims)

    def max(self, x: Symbol, /, *, axis: Any, keepdims: bool = False) -> Symbol:
        return self._reduce("ReduceMax", x, axis, keepdims)

    def min(self, x: Symbol, /, *, axis: Any, keepdims: bool = False) -> Symbol:
        return self._reduce("ReduceMin", x, axis, keepdims)

    def mean(self, x: Symbol, /, *, axis: Any, keepdims: bool = False) -> Symbol:
        return self._reduce("ReduceMean", x, axis, keepdims)

    def prod(self, x: Symbol, /, *, axis: Any, keepdims: bool = False) -> Symbol:
        return self._reduce("ReduceProd", x, axis, keepdims)

    def cumulative_sum(
        self, x: Symbol, /, *, axis: int, exclusive: bool = False, reverse: bool = False
    ) -> Symbol:
        place = self.constant(np.array(axis % x.ndim, np.int64))
        return self.op(
            "CumSum", x, place, shape=x.shape, exclusive=int(exclusive), reverse=int(reverse)
        )

    def _reduce(self, kind: str, x: Symbol, axis: Any, keepdims: bool) -> Symbol:
        axes = sorted(a % x.ndim for a in ([axis] if isinstance(axis, int) else axis))
        kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
        shape = kept if keepdims else [n for i, n in enumerate(x.shape) if i not in axes]
        return self.op(kind, x, self.ints(axes), shape=shape, keepdims=int(keepdims))

    def matmul(self, a: Symbol, b: Symbol, /) -> Symbol:
        shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return self.op("MatMul", a, b, shape=(*shape, a.shape[-2], b.shape[-1]))

    def resize_like(self, m: Symbol, x: Symbol) -> Symbol:
        shape = (*m.shape[:2], *x.shape[2:])
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self.op("Resize", m, None, None, self.ints(shape), shape=shape, **mode)

    def kth_largest(self, x: Symbol, k: int, axis: int) -> Symbol:
        many = min(k, x.shape[axis])
        shape = [many if i == axis % x.ndim else n for i, n in enumerate(x.shape)]
        top = self.ops(
            "TopK", x, self.ints([many]), shapes=[(shape, x.dtype), (shape, np.int64)], axis=axis
        )[0]
        return self.min(top, axis=axis, keepdims=True)

    def cast_like(self, v: Symbol, x: Symbol) -> Symbol:
        if v.dtype == x.dtype:
            return v
        if v.value is not None:
            return self.constant(v.value.astype(x.dtype))
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        return self.op("Cast", v, shape=v.shape, dtype=x.dtype, to=kind)

    def integers(self, x: Symbol) -> list[int]:
        if x.value is None:
            raise NotImplementedError("axes or pads computed from the input")
        return [int(v) for v in x.value.ravel()]

    def floats(self, x: Symbol) -> list[float]:
        if x.value is None:
            raise NotImplementedError("sizes or regions computed from the input")
        return [float(v) for v in x.value.ravel()]

    # ----- windows -----

    def conv(
        self, x: Symbol, w: Symbol, b: Symbol | None, window: Window, group: int = 1
    ) -> Symbol:
        return emit_convolution.conv(self, x, w, b, window, group)

    def conv_transpose_like(
        self, g: Symbol, w: Symbol, x: Symbol, window: Window, group: int = 1
    ) -> Symbol:
        return emit_convolution.conv_transpose_like(self, g, w, x, window, group)

    def max_pool_route(self, g: Symbol, y: Symbol, x: Symbol, window: Window) -> Symbol:
        return self.late(x.shape, g.dtype, Routed(g, y, x, window))

    def average_pool_like(
        self, g: Symbol, x: Symbol, window: Window, count_include_pad: bool
    ) -> Symbol:
        return emit_pools.average_pool_like(self, g, x, window, count_include_pad)

    # ----- accounts -----

    def scale(self, g: Symbol, v: Any) -> Symbol:
        factor = self._symbol(v, g)
        product, zero = g * factor, self.constant(0, g.dtype)
        if factor.finite or (factor.value is not None and np.isfinite(factor.value).all()):
            return product
        none = self.op("Equal", g, zero, shape=g.shape, dtype=bool)
        return self.op("Where", none, zero, product, shape=product.shape, dtype=product.dtype)

    def dot(self, g: Symbol, v: Any) -> Symbol:
        v = self._symbol(v, g)
        vector = self._vector(v, g)
        if vector is not None:
            return emit_channels.dot_channels(self, g, vector)
        return emit_channels.total(self, self.scale(g, v))

    def wide(self, x: Symbol) -> Symbol:
        """``x`` in float64."""
        if x.dtype == np.float64:
            return x
        return self.op("Cast", x, shape=x.shape, dtype=np.float64, to=onnx.TensorProto.DOUBLE)

    def channel_dot(self, g: Symbol, v: Any) -> Symbol:
        v = self._symbol(v, g)
        vector = self._vector(v, g)
        if vector is not None and g.ndim > 2:
            return emit_channels.mix_channels(self, g, vector)
        return self.sum(self.scale(g, v), axis=1, keepdims=True)

    def _vector(self, v: Symbol, like: Symbol) -> Array | None:
        """A constant as one finite number per channel, None where it is not that."""
        if v.value is None or not np.isfinite(v.value).all():
            return None
        return emit_channels.per_channel(v.value, like)
