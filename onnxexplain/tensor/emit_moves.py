"""Moving elements, as ONNX nodes: shapes, slices, picking and putting back."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnxexplain.tensor.symbol import Folded, Symbol
from onnxexplain.tensor.writing import Writing

Array = np.ndarray[Any, Any]


class TapeMoves(Writing):
    """The verbs that move elements and change none, and their ways back."""

    # ----- given shapes and values -----

    def broadcast_to(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        if x.shape == tuple(shape):
            return x
        return self.op("Expand", x, self.ints(shape), shape=shape)

    def indices(self, values: Any, like: Symbol) -> Symbol:
        return self.constant(np.asarray(values, np.int64))

    def to_int(self, x: Symbol) -> Symbol:
        if x.value is not None:
            return self.constant(x.value.astype(np.int64))
        return self.op("Cast", x, shape=x.shape, dtype=np.int64, to=onnx.TensorProto.INT64)

    def permute_dims(self, x: Symbol, /, axes: Sequence[int]) -> Symbol:
        axes = list(axes)
        if axes == sorted(axes):
            return x
        if x.value is not None:
            return self.constant(np.transpose(x.value, axes))
        return self.op("Transpose", x, shape=[x.shape[a] for a in axes], perm=axes)

    # ----- slices -----

    def cut(self, x: Symbol, cuts: Sequence[slice]) -> Symbol:
        places = [range(n)[cut] for n, cut in zip(x.shape, cuts, strict=False)]
        axes = [a for a, place in enumerate(places) if place != range(x.shape[a])]
        if not axes:
            return x
        if x.value is not None:
            return self.constant(x.value[tuple(cuts)])
        shape = [*map(len, places), *x.shape[len(places) :]]
        starts, stops, steps = zip(*((p.start, _stop(p), p.step) for p in places), strict=True)
        bounds = [self.ints([v[a] for a in axes]) for v in (starts, stops)]
        rest = self.ints(axes), self.ints([steps[a] for a in axes])
        return self.op("Slice", x, *bounds, *rest, shape=shape)

    def uncut_like(self, g: Symbol, x: Symbol, cuts: Sequence[slice]) -> Symbol:
        for axis, (n, cut) in enumerate(zip(x.shape, cuts, strict=False)):
            place = range(n)[cut]
            if place.step < 0:
                flip = [slice(None)] * axis + [slice(None, None, -1)]
                g, place = self.cut(g, flip), place[::-1]
            if place.step > 1 and len(place) > 1:
                g = self._apart(g, axis, place.step)
            first, last = (place[0], place[-1]) if len(place) else (0, -1)
            g = self.pad(g, [first, n - 1 - last], [axis])
        return g

    def _apart(self, g: Symbol, axis: int, step: int) -> Symbol:
        """``g`` with ``step - 1`` zeros between neighbours along ``axis``."""
        many = g.shape[axis]
        column = self.expand_dims(g, axis=axis + 1)
        padded = self.pad(column, [0, step - 1], [axis + 1])
        flat = self.reshape(padded, (*g.shape[:axis], many * step, *g.shape[axis + 1 :]))
        return self.pad(flat, [0, 1 - step], [axis])

    # ----- picking and putting back -----

    def pick(self, x: Symbol, index: Symbol) -> Symbol:
        flat = self.reshape(x, (math.prod(x.shape),))
        return self.op("Gather", flat, index, shape=index.shape, dtype=x.dtype, axis=0)

    def put_like(self, g: Symbol, index: Symbol, x: Symbol) -> Symbol:
        many = math.prod(x.shape)
        zeros = self.broadcast_to(self.constant(np.zeros(1, g.dtype)), (many,))
        where, what = self.reshape(index, (-1,)), self.reshape(g, (-1,))
        flat = self.op(
            "ScatterElements", zeros, where, what, shape=(many,), axis=0, reduction="add"
        )
        return self.reshape(flat, x.shape)

    def take(self, x: Symbol, index: Symbol, axis: int) -> Symbol:
        axis %= x.ndim
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        return self.op("Gather", x, index, shape=shape, axis=axis)

    def untake_like(self, g: Symbol, index: Symbol, x: Symbol, axis: int) -> Symbol:
        axis, many = axis % x.ndim, x.shape[axis]
        # Moved to axis 0, where ScatterND adds whole slices up.
        rest = [n for a, n in enumerate(x.shape) if a != axis]
        inner = list(range(axis, axis + index.ndim))
        outer = [a for a in range(g.ndim) if a not in inner]
        first = self.permute_dims(g, inner + outer)
        rows = self.reshape(first, (math.prod(index.shape), *rest))
        if index.value is not None:
            where = self.indices(np.where(index.value < 0, index.value + many, index.value), index)
        else:
            none = self.op("Less", index, self.constant(0, np.int64), shape=index.shape, dtype=bool)
            where = self.op("Where", none, index + many, index, shape=index.shape, dtype=np.int64)
        column = self.reshape(where, (math.prod(index.shape), 1))
        zeros = self.broadcast_to(self.constant(np.zeros(1, g.dtype)), (many, *rest))
        added = self.op("ScatterND", zeros, column, rows, shape=(many, *rest), reduction="add")
        back = [*range(1, axis + 1), 0, *range(axis + 1, x.ndim)]
        return self.permute_dims(added, back)

    # ----- by example -----

    def reshape(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        """``x`` in another shape."""
        if x.shape == tuple(shape):
            return x
        if x.value is not None:
            return self.constant(x.value.reshape(tuple(shape)))
        if 0 in shape:  # which else stands for the size at hand
            return self.op("Reshape", x, self.ints(shape), shape=shape, allowzero=1)
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
        if not axes:
            return g
        shape = [1 if a in axes else n for a, n in enumerate(g.shape)]
        total = self.op("ReduceSum", g, self.ints(axes), shape=shape, keepdims=1)
        return self.reshape(total, x.shape)

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


def _stop(place: range) -> int:
    """Where a slice ends; going down past the first element needs a number below all of them."""
    return place.stop if place.stop >= 0 else -(1 << 62)
