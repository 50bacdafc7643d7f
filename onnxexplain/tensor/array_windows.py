"""Convolutions and pools on arrays, one strided view per kernel position."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import array_api_compat

from onnxexplain.tensor.array_moves import ArrayMoves
from onnxexplain.tensor.namespace import Tensor, Window


class ArrayWindows(ArrayMoves):
    """The verbs that slide a window over the positions of an array."""

    ties: str

    def conv(
        self, x: Tensor, w: Tensor, b: Tensor | None, window: Window, group: int = 1
    ) -> Tensor:
        m, rank = self.module, window.rank
        x = self.filled(x, [0, 0, *window.pads[:rank]], [0, 0, *window.pads[rank:]], 0.0)
        sizes = _positions(x.shape[2:], window)
        y = None
        for tap, cut in _taps(sizes, window):
            part = m.reshape(x[(..., *cut)], (x.shape[0], group, x.shape[1] // group, -1))
            step = m.matmul(_grouped(m, w[(..., *tap)], group), part)
            y = step if y is None else y + step
        y = m.reshape(y, (x.shape[0], w.shape[0], *sizes))
        return y if b is None else y + self.channel(b, y)

    def conv_transpose_like(
        self, g: Tensor, w: Tensor, x: Tensor, window: Window, group: int = 1
    ) -> Tensor:
        m, rank, sizes = self.module, window.rank, tuple(g.shape[2:])
        out = self._canvas(g, x, sizes, window, 0.0)
        flat = m.reshape(g, (g.shape[0], group, g.shape[1] // group, -1))
        for tap, cut in _taps(sizes, window):
            weight = m.matrix_transpose(_grouped(m, w[(..., *tap)], group))
            step = m.reshape(m.matmul(weight, flat), (g.shape[0], x.shape[1], *sizes))
            out[(..., *cut)] += step
        return out[(..., *_inner(x.shape[2:], window.pads[:rank]))]

    def max_pool_route(self, g: Tensor, y: Tensor, x: Tensor, window: Window) -> Tensor:
        m, sizes = self.module, tuple(y.shape[2:])
        inner = (..., *_inner(x.shape[2:], window.pads[: window.rank]))
        padded = self._canvas(x, x, sizes, window, -math.inf)
        padded[inner] = x
        out = self._canvas(g, x, sizes, window, 0.0)
        if self.ties == "share":
            winners = sum(
                m.astype(padded[(..., *cut)] == y, g.dtype) for _, cut in _taps(sizes, window)
            )
            for _, cut in _taps(sizes, window):
                out[(..., *cut)] += m.where(padded[(..., *cut)] == y, g / winners, 0.0)
            return out[inner]
        open_ = y == y
        for _, cut in _taps(sizes, window):
            hit = (padded[(..., *cut)] == y) & open_
            out[(..., *cut)] += m.where(hit, g, 0.0)
            open_ = open_ & ~hit
        return out[inner]

    def average_pool_like(
        self, g: Tensor, x: Tensor, window: Window, count_include_pad: bool
    ) -> Tensor:
        m, sizes = self.module, tuple(g.shape[2:])
        counts = window_counts(tuple(x.shape[2:]), sizes, window, count_include_pad)
        per_axis = [m.asarray(c, dtype=g.dtype, device=array_api_compat.device(g)) for c in counts]
        for axis, count in enumerate(per_axis):
            g = g / m.reshape(count, (-1, *(1,) * (len(sizes) - 1 - axis)))
        out = self._canvas(g, x, sizes, window, 0.0)
        for _, cut in _taps(sizes, window):
            out[(..., *cut)] += g
        return out[(..., *_inner(x.shape[2:], window.pads[: window.rank]))]

    def _canvas(
        self, g: Tensor, x: Tensor, sizes: tuple[int, ...], window: Window, value: float
    ) -> Tensor:
        """An array that holds ``x`` with its padding and every window, even one that overhangs."""
        m, rank = self.module, window.rank
        covered = [
            (n - 1) * s + r for n, s, r in zip(sizes, window.strides, window.reach, strict=True)
        ]
        padded = [
            n + a + b
            for n, a, b in zip(x.shape[2:], window.pads[:rank], window.pads[rank:], strict=True)
        ]
        shape = (*x.shape[:2], *map(max, covered, padded))
        return m.full(shape, value, dtype=g.dtype, device=array_api_compat.device(g))


def window_counts(
    sizes: tuple[int, ...], windows: tuple[int, ...], window: Window, count_include_pad: bool
) -> list[list[float]]:
    """Return, per axis, by how many positions each window of an average pool divides.

    Padding counts where ``count_include_pad`` says so; what overhangs the padded extent
    (``ceil_mode``) never does. The divisor of a window is the product over its axes.
    """
    counts = []
    for axis, (n, many) in enumerate(zip(sizes, windows, strict=True)):
        begin, end = window.pads[axis], window.pads[window.rank + axis]
        low, high = (-begin, n + end) if count_include_pad else (0, n)
        row = []
        for i in range(many):
            first = i * window.strides[axis] - begin
            reach = range(first, first + window.reach[axis], window.dilations[axis])
            row.append(float(max(sum(low <= p < high for p in reach), 1)))
        counts.append(row)
    return counts


def _taps(
    sizes: Sequence[int], window: Window
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield, in row-major order, each kernel position and the elements it meets."""
    for tap in itertools.product(*map(range, window.kernel)):
        yield (
            tap,
            tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, window.dilations, sizes, window.strides, strict=True)
            ),
        )


def _positions(sizes: Sequence[int], window: Window) -> tuple[int, ...]:
    return tuple(
        (n - r) // s + 1 for n, r, s in zip(sizes, window.reach, window.strides, strict=True)
    )


def _inner(sizes: Sequence[int], begins: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(b, b + n) for n, b in zip(sizes, begins, strict=True))


def _grouped(m: Any, w: Tensor, group: int) -> Tensor:
    """A tap's weights [O, C/group] as [group, O/group, C/group]."""
    return m.reshape(w, (group, w.shape[0] // group, w.shape[1]))
