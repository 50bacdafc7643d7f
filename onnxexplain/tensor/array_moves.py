"""Moving elements of arrays: shapes, slices, picking and putting back."""

import math
from collections.abc import Sequence
from typing import Any

import array_api_compat

from onnxexplain.tensor.namespace import Tensor


class ArrayMoves:
    """The verbs that move elements and change none, and their ways back."""

    module: Any

    # ----- given shapes and values -----

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return self.module.reshape(x, tuple(shape))

    def broadcast_to(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return self.module.broadcast_to(x, tuple(shape))

    def constant(self, values: Any, like: Tensor) -> Tensor:
        device = array_api_compat.device(like)
        return self.module.asarray(values, dtype=like.dtype, device=device)

    def indices(self, values: Any, like: Tensor) -> Tensor:
        device = array_api_compat.device(like)
        return self.module.asarray(values, dtype=self.module.int64, device=device)

    def to_int(self, x: Tensor) -> Tensor:
        return self.module.astype(x, self.module.int64)

    # ----- slices -----

    def cut(self, x: Tensor, cuts: Sequence[slice]) -> Tensor:
        return x[(*cuts, ...)]

    def uncut_like(self, g: Tensor, x: Tensor, cuts: Sequence[slice]) -> Tensor:
        out = self.module.zeros(x.shape, dtype=g.dtype, device=array_api_compat.device(g))
        out[(*cuts, ...)] = g
        return out

    # ----- picking and putting back -----

    def pick(self, x: Tensor, index: Tensor) -> Tensor:
        flat = self.module.reshape(x, (-1,))
        return self.module.reshape(
            self.module.take(flat, self.module.reshape(index, (-1,)), axis=0), index.shape
        )

    def put_like(self, g: Tensor, index: Tensor, x: Tensor) -> Tensor:
        m = self.module
        out = m.zeros(math.prod(x.shape), dtype=g.dtype, device=array_api_compat.device(g))
        where, what = m.reshape(index, (-1,)), m.reshape(g, (-1,))
        if hasattr(m, "add") and hasattr(m.add, "at"):
            m.add.at(out, where, what)
        else:  # the standard has no scattered addition: a matrix of ones where index meets place
            places = m.arange(out.shape[0], dtype=where.dtype)
            meets = m.astype(m.expand_dims(where, axis=0) == m.expand_dims(places, axis=1), g.dtype)
            out = m.matmul(meets, what)
        return m.reshape(out, x.shape)

    def take(self, x: Tensor, index: Tensor, axis: int) -> Tensor:
        axis, many = axis % x.ndim, x.shape[axis]
        flat = self.module.reshape(self._positive(index, many), (-1,))
        taken = self.module.take(x, flat, axis=axis)
        return self.module.reshape(taken, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))

    def untake_like(self, g: Tensor, index: Tensor, x: Tensor, axis: int) -> Tensor:
        axis, many = axis % x.ndim, x.shape[axis]
        inner, outer = math.prod(x.shape[axis + 1 :]), math.prod(x.shape[:axis])
        flat = self.module.reshape(self._positive(index, many), (1, -1, 1))
        first = self.module.reshape(self.indices(list(range(outer)), g), (-1, 1, 1))
        last = self.module.reshape(self.indices(list(range(inner)), g), (1, 1, -1))
        return self.put_like(g, (first * many + flat) * inner + last, x)

    def _positive(self, index: Tensor, many: int) -> Tensor:
        """Indices that count from the end made to count from the start."""
        return self.module.where(index < 0, index + many, index)

    # ----- by example -----

    def reshape_like(self, g: Tensor, x: Tensor) -> Tensor:
        return self.module.reshape(g, x.shape)

    def sum_like(self, g: Tensor, x: Tensor) -> Tensor:
        extra = g.ndim - x.ndim
        axes = (
            *range(extra),
            *(extra + i for i, n in enumerate(x.shape) if n < g.shape[extra + i]),
        )
        if not axes:
            return g
        return self.module.reshape(
            self.module.sum(g, axis=axes, keepdims=True, dtype=g.dtype), x.shape
        )

    def expand_like(self, g: Tensor, x: Tensor) -> Tensor:
        return self.module.broadcast_to(g, x.shape)

    def spread_like(
        self, g: Tensor, x: Tensor, axes: Sequence[int] | None, keepdims: bool
    ) -> Tensor:
        kept = range(x.ndim) if axes is None else [a % x.ndim for a in axes]
        shape = tuple(1 if i in kept else n for i, n in enumerate(x.shape))
        return self.module.broadcast_to(self.module.reshape(g, shape), x.shape)

    def count(self, x: Tensor, axes: Sequence[int] | None) -> float:
        return float(math.prod(x.shape[a] for a in (range(x.ndim) if axes is None else axes)))

    def channel(self, v: Tensor, x: Tensor) -> Tensor:
        return self.module.reshape(v, (-1, *(1,) * (x.ndim - 2)))

    def split_like(self, g: Tensor, parts: Sequence[Tensor], axis: int) -> tuple[Tensor, ...]:
        pieces, start = [], 0
        for part in parts:
            end = start + part.shape[axis]
            pieces.append(g[_along(g.ndim, axis, slice(start, end))])
            start = end
        return tuple(pieces)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        return self.module.concat(list(parts), axis=axis)

    def unpad_like(self, g: Tensor, x: Tensor, pads: Sequence[int], axes: Sequence[int]) -> Tensor:
        return self.pad(g, [-p for p in pads], axes)

    def pad(self, x: Tensor, pads: Sequence[int], axes: Sequence[int]) -> Tensor:
        before, after = [0] * x.ndim, [0] * x.ndim
        for i, axis in enumerate(axes):
            before[axis], after[axis] = pads[i], pads[len(axes) + i]
        crop = tuple(
            slice(max(-b, 0), n - max(-a, 0))
            for b, a, n in zip(before, after, x.shape, strict=True)
        )
        return self.filled(x[crop], [max(b, 0) for b in before], [max(a, 0) for a in after], 0.0)

    def filled(self, x: Tensor, before: list[int], after: list[int], value: float) -> Tensor:
        if not any(before) and not any(after):
            return x
        shape = tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True))
        out = self.module.full(shape, value, dtype=x.dtype, device=array_api_compat.device(x))
        out[tuple(slice(b, b + n) for b, n in zip(before, x.shape, strict=True))] = x
        return out

    def resize_like(self, m: Tensor, x: Tensor) -> Tensor:
        for axis in range(2, m.ndim):
            many, n = m.shape[axis], x.shape[axis]
            place = [min(max((i + 0.5) * many / n - 0.5, 0.0), many - 1.0) for i in range(n)]
            weight = [[max(1.0 - abs(p - j), 0.0) for p in place] for j in range(many)]
            column = self.module.asarray(weight, dtype=m.dtype, device=array_api_compat.device(m))
            axes = [a for a in range(m.ndim) if a != axis] + [axis]
            back = [axes.index(a) for a in range(m.ndim)]
            moved = self.module.matmul(self.module.permute_dims(m, axes), column)
            m = self.module.permute_dims(moved, back)
        return m

    def kth_largest(self, x: Tensor, k: int, axis: int) -> Tensor:
        ordered = self.module.sort(x, axis=axis, descending=True)
        place = min(k, x.shape[axis]) - 1
        return ordered[_along(x.ndim, axis, slice(place, place + 1))]

    def cast_like(self, v: Tensor, x: Tensor) -> Tensor:
        return self.module.astype(v, x.dtype)

    def integers(self, x: Tensor) -> list[int]:
        return [int(v) for v in self.module.reshape(x, (-1,))]

    def floats(self, x: Tensor) -> list[float]:
        return [float(v) for v in self.module.reshape(x, (-1,))]


def _along(rank: int, axis: int, cut: slice) -> tuple[slice, ...]:
    cuts = [slice(None)] * rank
    cuts[axis] = cut
    return tuple(cuts)
