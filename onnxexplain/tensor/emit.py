"""The words as ONNX nodes: each call writes what it says onto a tape."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxexplain.tensor import kernels
from onnxexplain.tensor.namespace import Window
from onnxexplain.tensor.symbol import Folded, Origin, Positive, Routed, Scaled, Symbol

Array = np.ndarray[Any, Any]

_BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
_BINARY |= {"Max": np.maximum, "Min": np.minimum, "Pow": np.power}
_UNARY = {"Abs": np.abs, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Tanh": np.tanh}
_UNARY |= {"Sign": np.sign, "Neg": np.negative, "Sin": np.sin, "Cos": np.cos}
_UNARY |= {"Sinh": np.sinh, "Cosh": np.cosh}


class Tape:
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

    def __init__(self, prefix: str, *, blocked: bool, ties: str = "first") -> None:
        self.prefix = prefix
        self.blocked = blocked
        self.ties = ties
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.zero: Symbol | None = None
        """A zero [N,1,1,1] that cannot be folded: what is added to it is made at run time."""
        self._count = 0
        self._memo: dict[tuple[Any, ...], tuple[Symbol, ...]] = {}
        self._constants: dict[tuple[Any, ...], Symbol] = {}

    # ----- writing -----

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any,
        value: Array | None = None,
        *,
        finite: bool = False,
    ) -> Symbol:
        """Return the symbol of a tensor that the model already has."""
        symbol = Symbol(self, name, tuple(shape), np.dtype(dtype), value)
        symbol.finite = finite
        return symbol

    def constant(self, value: Any, dtype: Any = None) -> Symbol:
        """Return the symbol of an array; the same array is stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        if np.ndim(value) == 0:
            array = array.reshape(())
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._constants:
            self._constants[key] = Symbol(self, None, array.shape, array.dtype, array)
        return self._constants[key]

    def op(
        self,
        kind: str,
        *inputs: Symbol | None,
        shape: Sequence[int],
        dtype: Any = None,
        domain: str = "",
        **attributes: Any,
    ) -> Symbol:
        """Write one node, once however often it is asked for, and return its output."""
        return self.ops(kind, *inputs, shapes=[(shape, dtype)], domain=domain, **attributes)[0]

    def ops(
        self,
        kind: str,
        *inputs: Symbol | None,
        shapes: Sequence[tuple[Sequence[int], Any]],
        domain: str = "",
        **attributes: Any,
    ) -> tuple[Symbol, ...]:
        """Write one node with several outputs."""
        names = [self.written(x) if x is not None else "" for x in inputs]
        key = (kind, domain, *names, repr(sorted(attributes.items())))
        if key not in self._memo:
            first = next(x for x in inputs if x is not None)
            outputs = tuple(
                Symbol(self, self._fresh(kind), tuple(s), np.dtype(d or first.dtype))
                for s, d in shapes
            )
            made = [str(out.name) for out in outputs]
            self.nodes.append(
                helper.make_node(kind, names, made, made[0], domain=domain, **attributes)
            )
            self._memo[key] = outputs
        return self._memo[key]

    def written(self, x: Symbol) -> str:
        """Return the name of ``x`` in the graph, writing what has been put off."""
        if x.name is None:
            if x.value is not None:
                x.name = self._fresh("constant")
                self.initializers[x.name] = numpy_helper.from_array(x.value, x.name)
            elif isinstance(x.origin, Scaled):
                x.name = self.written(kernels.scale_channels(self, x.origin.of, x.origin.by))
            elif isinstance(x.origin, Routed):
                x.name = self.written(kernels.route(self, x.origin))
            elif isinstance(x.origin, Folded):
                part = x.origin.of if x.origin.times == 1 else x.origin.of * x.origin.times
                x.name = self.written(self.op("Expand", part, self.ints(x.shape), shape=x.shape))
            elif isinstance(x.origin, Positive):
                zero = self.constant(0, x.origin.of.dtype)
                x.name = self.written(
                    self.op("Greater", x.origin.of, zero, shape=x.shape, dtype=bool)
                )
        return str(x.name)

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}{kind}_{self._count}"

    def ints(self, values: Sequence[int]) -> Symbol:
        """Return a constant vector of integers."""
        return self.constant(np.array(list(values), np.int64))

    def _symbol(self, x: Any, like: Symbol) -> Symbol:
        return x if isinstance(x, Symbol) else self.constant(x, like.dtype)

    def late(self, shape: Sequence[int], dtype: Any, origin: Origin) -> Symbol:
        """Return a symbol that is written only if somebody reads it."""
        return Symbol(self, None, tuple(shape), np.dtype(dtype), None, origin)

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
        if kind in ("Mul", "Div") and b.value is not None:
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
        late = self._late("Mul", x, self.constant(-1, x.dtype)) if kind == "Neg" else None
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

    def _reduce(self, kind: str, x: Symbol, axis: Any, keepdims: bool) -> Symbol:
        axes = sorted(a % x.ndim for a in ([axis] if isinstance(axis, int) else axis))
        kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
        shape = kept if keepdims else [n for i, n in enumerate(x.shape) if i not in axes]
        return self.op(kind, x, self.ints(axes), shape=shape, keepdims=int(keepdims))

    def matmul(self, a: Symbol, b: Symbol, /) -> Symbol:
        shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return self.op("MatMul", a, b, shape=(*shape, a.shape[-2], b.shape[-1]))

    def permute_dims(self, x: Symbol, /, axes: Sequence[int]) -> Symbol:
        axes = list(axes)
        if axes == sorted(axes):
            return x
        if x.value is not None:
            return self.constant(np.transpose(x.value, axes))
        return self.op("Transpose", x, shape=[x.shape[a] for a in axes], perm=axes)

    # ----- verbs by example -----

    def reshape(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        """``x`` in another shape."""
        if x.shape == tuple(shape):
            return x
        if x.value is not None:
            return self.constant(x.value.reshape(tuple(shape)))
        return self.op("Reshape", x, self.ints(shape), shape=shape)

    def reshape_like(self, g: Symbol, x: Symbol) -> Symbol:
        return self.reshape(g, x.shape)

    def expand_dims(self, x: Symbol, /, *, axis: int) -> Symbol:
        at = axis % (x.ndim + 1)
        return self.reshape(x, (*x.shape[:at], 1, *x.shape[at:]))

    def sum_like(self, g: Symbol, x: Symbol) -> Symbol:
        extra = g.ndim - x.ndim
        axes = [
            *range(extra),
            *(extra + i for i, n in enumerate(x.shape) if n < g.shape[extra + i]),
        ]
        return self.reshape(self.sum(g, axis=axes, keepdims=True), x.shape) if axes else g

    def expand_like(self, g: Symbol, x: Symbol) -> Symbol:
        return g if g.shape == x.shape else self.op("Expand", g, self.ints(x.shape), shape=x.shape)

    def spread_like(
        self, g: Symbol, x: Symbol, axes: Sequence[int] | None, keepdims: bool
    ) -> Symbol:
        kept = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
        column = self.reshape(g, [1 if i in kept else n for i, n in enumerate(x.shape)])
        return self.late(x.shape, g.dtype, Folded(column, 1.0))

    def count(self, x: Symbol, axes: Sequence[int] | None) -> float:
        return float(math.prod(x.shape[a] for a in (range(x.ndim) if axes is None else axes)))

    def channel(self, v: Symbol, x: Symbol) -> Symbol:
        return self.reshape(v, (math.prod(v.shape), *(1,) * (x.ndim - 2)))

    def split_like(self, g: Symbol, parts: Sequence[Symbol], axis: int) -> tuple[Symbol, ...]:
        sizes = [part.shape[axis] for part in parts]
        if len(sizes) == 1:
            return (g,)
        return self.ops(
            "Split",
            g,
            self.ints(sizes),
            shapes=[(part.shape, g.dtype) for part in parts],
            axis=axis % g.ndim,
        )

    def concat(self, parts: Sequence[Symbol], axis: int) -> Symbol:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        if all(part.value is not None for part in parts):
            return self.constant(np.concatenate([np.asarray(p.value) for p in parts], axis))
        return self.op("Concat", *parts, shape=shape, axis=axis)

    def unpad_like(self, g: Symbol, x: Symbol, pads: Sequence[int], axes: Sequence[int]) -> Symbol:
        return self.pad(g, [-p for p in pads], axes)

    def pad(self, x: Symbol, pads: Sequence[int], axes: Sequence[int]) -> Symbol:
        shape, full = list(x.shape), [0] * (2 * x.ndim)
        for i, axis in enumerate(axes):
            full[axis], full[x.ndim + axis] = pads[i], pads[len(axes) + i]
            shape[axis] += pads[i] + pads[len(axes) + i]
        return self.op("Pad", x, self.ints(full), shape=shape) if any(full) else x

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
