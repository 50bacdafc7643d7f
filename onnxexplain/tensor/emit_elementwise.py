"""Functions of each element, as ONNX nodes."""

from typing import Any

import numpy as np

from onnxexplain.tensor import emit_channels
from onnxexplain.tensor.emit_moves import TapeMoves
from onnxexplain.tensor.symbol import Folded, Positive, Routed, Scaled, Symbol

_BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
_BINARY |= {"Max": np.maximum, "Min": np.minimum, "Pow": np.power}
_UNARY = {"Abs": np.abs, "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Tanh": np.tanh}
_UNARY |= {"Sign": np.sign, "Neg": np.negative, "Sin": np.sin, "Cos": np.cos}
_UNARY |= {"Sinh": np.sinh, "Cosh": np.cosh, "Floor": np.floor, "Round": np.rint}


class TapeElementwise(TapeMoves):
    """The words that look at one element at a time; a product may wait for what reads it."""

    def _symbol(self, x: Any, like: Symbol) -> Symbol:
        return x if isinstance(x, Symbol) else self.constant(x, like.dtype)

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
        vector = emit_channels.per_channel(factor, a)
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
        if (
            self.blocked
            and emit_channels.fits_blocks(y)
            and y.dtype == np.float32
            and g.shape == y.shape
        ):
            return self.op("Mul", g, emit_channels.open_gate(self._tape, y), shape=g.shape)
        zero = self.constant(0, g.dtype)
        return self.op(
            "Where", condition, g, zero, shape=np.broadcast_shapes(g.shape, y.shape), dtype=g.dtype
        )

    def zeros_like(self, x: Symbol, /) -> Symbol:
        return self.constant(np.zeros(x.shape, x.dtype))

    def ones_like(self, x: Symbol, /) -> Symbol:
        return self.constant(np.ones((1,) * x.ndim, x.dtype))
