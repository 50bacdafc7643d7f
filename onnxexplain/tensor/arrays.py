"""The words on arrays: one text for NumPy, CuPy and any array-API library that judges it."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import array_api_compat

from onnxexplain.tensor.namespace import Tensor, Window

_WORDS = frozenset(
    (
        "abs exp log sqrt tanh sign sin cos sinh cosh pow maximum minimum where matmul "
        "permute_dims zeros_like ones_like expand_dims"
    ).split()
)


class Arrays:
    """The namespace of one array library.

    Parameters
    ----------
    module
        ``numpy``, ``cupy`` or another array-API namespace.
    ties
        who wins where elements of a max pool's window are equal: the ``first`` in row-major order
        (torch's rule), or all alike (``share``).
    """

    def __init__(self, module: Any, ties: str = "first") -> None:
        self.module = array_api_compat.array_namespace(module.empty(0))
        self.ties = ties

    def __getattr__(self, word: str) -> Any:
        if word in _WORDS:
            return getattr(self.module, word)
        raise AttributeError(word)

    def max(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.max(x, axis=_axes(axis), keepdims=keepdims)

    def min(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.min(x, axis=_axes(axis), keepdims=keepdims)

    def mean(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.mean(x, axis=_axes(axis), keepdims=keepdims)

    def sum(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.sum(x, axis=_axes(axis), keepdims=keepdims, dtype=x.dtype)

    # ----- verbs by example -----

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
        return self.module.reshape(self.sum(g, axis=axes, keepdims=True), x.shape)

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
        return self._pad(x[crop], [max(b, 0) for b in before], [max(a, 0) for a in after], 0.0)

    def _pad(self, x: Tensor, before: list[int], after: list[int], value: float) -> Tensor:
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

    # ----- windows -----

    def conv(
        self, x: Tensor, w: Tensor, b: Tensor | None, window: Window, group: int = 1
    ) -> Tensor:
        m, rank = self.module, window.rank
        x = self._pad(x, [0, 0, *window.pads[:rank]], [0, 0, *window.pads[rank:]], 0.0)
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

    # ----- accounts -----

    def scale(self, g: Tensor, v: Tensor) -> Tensor:
        if isinstance(v, (int, float)) or bool(self.module.all(self.module.isfinite(v))):
            return g * v
        return self.module.where(g == 0, self.module.zeros_like(g), g * v)

    def dot(self, g: Tensor, v: Tensor) -> Tensor:
        m = self.module
        product = m.astype(self.scale(g, v), m.float64)
        return m.sum(m.reshape(product, (*(product.shape[:1] or (1,)), -1)), axis=1)

    def channel_dot(self, g: Tensor, v: Tensor) -> Tensor:
        return self.sum(self.scale(g, v), axis=1, keepdims=True)


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


def _along(rank: int, axis: int, cut: slice) -> tuple[slice, ...]:
    cuts = [slice(None)] * rank
    cuts[axis] = cut
    return tuple(cuts)


def _axes(axis: Any) -> Any:
    return axis if isinstance(axis, int) else tuple(axis)
