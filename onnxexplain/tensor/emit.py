"""The words as ONNX nodes: each call writes what it says onto a tape."""

from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxexplain.tensor import kernels
from onnxexplain.tensor.emit_moves import TapeMoves
from onnxexplain.tensor.namespace import Window
from onnxexplain.tensor.symbol import Folded, Positive, Routed, Scaled, Symbol

Array = np.ndarray[Any, Any]

_BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
_BINARY |= {"Max": np.maximum, "Min": np.minimum, "Pow": np.power}
_UNARY = {"Abs": np.abs, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Tanh": np.tanh}
_UNARY |= {"Sign": np.sign, "Neg": np.negative, "Sin": np.sin, "Cos": np.cos}
_UNARY |= {"Sinh": np.sinh, "Cosh": np.cosh, "Floor": np.floor, "Round": np.rint}


class Tape(TapeMoves):
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

    def _symbol(self, x: Any, like: Symbol) -> Symbol:
        return x if isinstance(x, Symbol) else self.constant(x, like.dtype)

    def settled(self, x: Symbol) -> Symbol:
        origin = x.origin
        if isinstance(origin, Scaled):
            return kernels.scale_channels(self, origin.of, origin.by)
        if isinstance(origin, Routed):
            return kernels.route(self, origin)
        if isinstance(origin, Folded):
            part = origin.of if origin.times == 1 else origin.of * origin.times
            return self.op("Expand", part, self.ints(x.shape), shape=x.shape)
        if isinstance(origin, Positive):
            zero = self.constant(0, origin.of.dtype)
            return self.op("Greater", origin.of, zero, shape=x.shape, dtype=bool)
        raise LookupError(repr(x))

    # ----- elementwise -----

    def binary(self, kind: str, a: Any, b: Any) -> Symbol:
        """Arithmetic of two operands; of two constants it is done at once."""
        like = a if isinstance(a, Symbol) else b
        a, b = self._symbol(a, like), self._symbol(b, like)
        if a.value is not None and b.value is not None:
            return self.constant(_BINARY[kind](a.value, b.value).astype(like.dtype))
        shape = np.broadcast_shapes(a.shape, b.shape)
        if kind == "Mul" and a.value is not None:
            a, b = b, a
        if kind in ("Mul", "Div") and b.value is not None and a.dtype.kind == "f":
            late = self._late(kind, a, b)
            if late is not None:
                return late
        return self.op(kind, a, b, shape=shape)

    def _late(self, kind: str, a: Symbol, b: Symbol) -> Symbol | None:
        """A product with one constant per channel waits: a convolution may take it over."""
        factor = b.value if kind == "Mul" else 1 / np.asarray(b.value, b.dtype)
        if factor is None:
            return None
        if isinstance(a.origin, Folded) and factor.size == 1:
            return self.late(
                a.shape, a.dtype, Folded(a.origin.of, a.origin.times * float(factor.item()))
            )
        vector = kernels.per_channel(factor, a)
        if vector is None:
            return None
        if isinstance(a.origin, Scaled):
            return self.late(a.shape, a.dtype, Scaled(a.origin.of, a.origin.by * vector))
        return self.late(a.shape, a.dtype, Scaled(a, vector))

    def unary(self, kind: str, x: Symbol) -> Symbol:
        """A function of each element."""
        if x.value is not None:
            return self.constant(_UNARY[kind](x.value).astype(x.dtype))
        if kind == "Neg" and x.dtype.kind == "f":
            late = self._late("Mul", x, self.constant(-1, x.dtype))
            if late is not None:
                return late
        return self.op(kind, x, shape=x.shape)

    def compare(self, kind: str, a: Symbol, b: Any) -> Symbol:
        """A truth value per element."""
        if kind == "Greater" and not isinstance(b, Symbol) and b == 0:
            return self.late(a.shape, bool, Positive(a))
        b = self._symbol(b, a)
        return self.op(kind, a, b, shape=np.broadcast_shapes(a.shape, b.shape), dtype=bool)

    def abs(self, x: Symbol, /) -> Symbol:
        return self.unary("Abs", x)

    def exp(self, x: Symbol, /) -> Symbol:
        return self.unary("Exp", x)

    def log(self, x: Symbol, /) -> Symbol:
        return self.unary("Log", x)

    def sqrt(self, x: Symbol, /) -> Symbol:
        return self.unary("Sqrt", x)

    def tanh(self, x: Symbol, /) -> Symbol:
        return self.unary("Tanh", x)

    def sign(self, x: Symbol, /) -> Symbol:
        return self.unary("Sign", x)

    def sin(self, x: Symbol, /) -> Symbol:
        return self.unary("Sin", x)

    def cos(self, x: Symbol, /) -> Symbol:
        return self.unary("Cos", x)

    def sinh(self, x: Symbol, /) -> Symbol:
        return self.unary("Sinh", x)

    def cosh(self, x: Symbol, /) -> Symbol:
        return self.unary("Cosh", x)

    def floor(self, x: Symbol, /) -> Symbol:
        return self.unary("Floor", x)

    def round(self, x: Symbol, /) -> Symbol:
        return self.unary("Round", x)

    def equal(self, x: Symbol, y: Any, /) -> Symbol:
        return self.compare("Equal", x, y)

    def logical_not(self, x: Symbol, /) -> Symbol:
        return self.op("Not", x, shape=x.shape, dtype=bool)

    def logical_and(self, x: Symbol, y: Symbol, /) -> Symbol:
        return self.compare("And", x, y)

    def logical_or(self, x: Symbol, y: Symbol, /) -> Symbol:
        return self.compare("Or", x, y)

    def pow(self, x: Any, y: Any, /) -> Symbol:
        return self.binary("Pow", x, y)

    def maximum(self, x: Any, y: Any, /) -> Symbol:
        if isinstance(x, Symbol) and x.value is None and not isinstance(y, Symbol) and y == 0:
            return self.op("Relu", x, shape=x.shape)  # stays in the blocked layout
        return self.binary("Max", x, y)

    def minimum(self, x: Any, y: Any, /) -> Symbol:
        return self.binary("Min", x, y)

    def where(self, condition: Symbol, x: Any, y: Any, /) -> Symbol:
        zero = not isinstance(y, Symbol) and y == 0
        if zero and isinstance(x, Symbol) and isinstance(condition.origin, Positive):
            return self._gate(x, condition)
        like = x if isinstance(x, Symbol) else y
        x, y = self._symbol(x, like), self._symbol(y, like)
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        return self.op("Where", condition, x, y, shape=shape, dtype=x.dtype)

    def _gate(self, g: Symbol, condition: Symbol) -> Symbol:
        """``where(y > 0, g, 0)``, behind the pool that ``g`` came through where there is one."""
        origin, y = g.origin, condition.origin.of  # type: ignore[union-attr]
        if isinstance(origin, Scaled):
            return self.late(
                g.shape, g.dtype, Scaled(self.where(condition, origin.of, 0.0), origin.by)
            )
        if isinstance(origin, Routed) and origin.x is y:
            gated = self.where(origin.y > 0, origin.g, 0.0)
            routed = Routed(gated, origin.y, origin.x, origin.window)
            return self.late(g.shape, g.dtype, routed)
        if self.blocked and kernels.fits_blocks(y) and y.dtype == np.float32 and g.shape == y.shape:
            return self.op("Mul", g, kernels.open_gate(self, y), shape=g.shape)
        zero = self.constant(0, g.dtype)
        return self.op(
            "Where", condition, g, zero, shape=np.broadcast_shapes(g.shape, y.shape), dtype=g.dtype
        )

    def zeros_like(self, x: Symbol, /) -> Symbol:
        return self.constant(np.zeros(x.shape, x.dtype))

    def ones_like(self, x: Symbol, /) -> Symbol:
        return self.constant(np.ones((1,) * x.ndim, x.dtype))

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
        return kernels.conv(self, x, w, b, window, group)

    def conv_transpose_like(
        self, g: Symbol, w: Symbol, x: Symbol, window: Window, group: int = 1
    ) -> Symbol:
        return kernels.conv_transpose_like(self, g, w, x, window, group)

    def max_pool_route(self, g: Symbol, y: Symbol, x: Symbol, window: Window) -> Symbol:
        return self.late(x.shape, g.dtype, Routed(g, y, x, window))

    def average_pool_like(
        self, g: Symbol, x: Symbol, window: Window, count_include_pad: bool
    ) -> Symbol:
        return kernels.average_pool_like(self, g, x, window, count_include_pad)

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
            return kernels.dot_channels(self, g, vector)
        return kernels.total(self, self.scale(g, v))

    def wide(self, x: Symbol) -> Symbol:
        """``x`` in float64."""
        if x.dtype == np.float64:
            return x
        return self.op("Cast", x, shape=x.shape, dtype=np.float64, to=onnx.TensorProto.DOUBLE)

    def channel_dot(self, g: Symbol, v: Any) -> Symbol:
        v = self._symbol(v, g)
        vector = self._vector(v, g)
        if vector is not None and g.ndim > 2:
            return kernels.mix_channels(self, g, vector)
        return self.sum(self.scale(g, v), axis=1, keepdims=True)

    def _vector(self, v: Symbol, like: Symbol) -> Array | None:
        """A constant as one finite number per channel, None where it is not that."""
        if v.value is None or not np.isfinite(v.value).all():
            return None
        return kernels.per_channel(v.value, like)
