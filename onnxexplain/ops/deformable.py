"""Deformable convolution: a convolution whose taps are read where an offset moves them."""

import itertools
import math

from onnxexplain.ops import _sampling
from onnxexplain.ops._operator import operator
from onnxexplain.ops._sampling import Reading
from onnxexplain.tensor import Window


class _Parts:
    """What is read of ``x``, and the shapes in which the matrix product takes it.

    R rows stand for samples and offset groups, K for taps, P for positions of the output.
    """

    def __init__(self, xp, x, w, offset, mask, *, group=1, offset_group=1, **geometry):
        self.xp, self.mask = xp, mask
        self.window = _window(w, **geometry)
        self.rows, self.taps = x.shape[0] * offset_group, math.prod(self.window.kernel)
        self.places = math.prod(offset.shape[2:])
        self.kernel = xp.reshape(w, (group, w.shape[0] // group, math.prod(w.shape[1:])))
        self.shape = (x.shape[0], w.shape[0], *offset.shape[2:])
        self.moves = self._moves(offset)
        planes = xp.reshape(x, (self.rows, x.shape[1] // offset_group, *x.shape[2:]))
        samples = xp.indices(list(range(self.rows)), x)
        at = [
            xp.constant([here], x) + by
            for here, by in zip(self._unmoved(offset.shape[2:]), self.moves, strict=True)
        ]
        self.reading = Reading.of(xp, planes, samples, at, "linear", _sampling.zeros)

    def _moves(self, offset):
        """How far every tap is moved at every position, per axis: [R,KP]."""
        xp, rank = self.xp, self.window.rank
        apart = xp.reshape(offset, (self.rows, self.taps, rank, self.places))
        every = (slice(None), slice(None))
        parts = [xp.cut(apart, (*every, slice(axis, axis + 1))) for axis in range(rank)]
        return [xp.reshape(part, (self.rows, self.taps * self.places)) for part in parts]

    def _unmoved(self, sizes):
        """Where a convolution reads, per axis: tap by tap, position by position."""
        window = self.window
        order = itertools.product(*map(range, (*window.kernel, *sizes)))
        pairs = [(place[: window.rank], place[window.rank :]) for place in order]
        for axis in range(window.rank):
            step, apart = window.strides[axis], window.dilations[axis]
            begin = window.pads[axis]
            yield [float(p[axis] * step + tap[axis] * apart - begin) for tap, p in pairs]

    def masked(self, columns):
        """Multiply what was read, [R,C,KP], by the mask."""
        if self.mask is None:
            return columns
        return columns * self.xp.reshape(self.mask, (self.rows, 1, self.taps * self.places))

    def grouped(self, columns):
        """What was read as the matrix product takes it: [N, group, channels * K, P]."""
        group, _, deep = self.kernel.shape
        return self.xp.reshape(columns, (self.shape[0], group, deep, self.places))

    def product(self, columns):
        """The weighted sums of what was read: [N,M,...]."""
        met = self.xp.matmul(self.kernel, self.grouped(self.masked(columns)))
        return self.xp.reshape(met, self.shape)

    def arriving(self, g):
        """``g`` as the matrix product takes it: [N, group, M / group, P]."""
        group, outer, _ = self.kernel.shape
        return self.xp.reshape(g, (self.shape[0], group, outer, self.places))


def _window(w, *, kernel_shape=None, strides=None, dilations=None, pads=None):
    return Window.of(kernel_shape or w.shape[2:], strides, dilations, pads)


def _turned(xp, x):
    return xp.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _deform_conv(xp, x, w, offset, b=None, mask=None, **said):
    parts = _Parts(xp, x, w, offset, mask, **said)
    y = parts.product(parts.reading.value())
    return y if b is None else y + xp.channel(b, y)


def _offset(xp, y, x, w, offset, b=None, mask=None, *, varies, **said):
    """A product of input, weights and mask counts as often as it has factors that vary."""
    varies = (*varies, False, False)
    bias = None if b is None else xp.channel(b, y)
    left = None if b is None or varies[3] else bias
    factors = sum((varies[0], varies[1], mask is not None and varies[4]))
    if factors != 1:
        product = y if b is None else y - bias
        left = (1.0 - factors) * product + (0.0 if left is None else left)
    if varies[2]:
        parts = _Parts(xp, x, w, offset, mask, **said)
        for axis, by in enumerate(parts.moves):
            moved = parts.reading.value(axis) * xp.expand_dims(by, axis=1)
            left = (0.0 if left is None else left) - parts.product(moved)
    return left


@operator("DeformConv", role="linear", offset=_offset, forward=_deform_conv, weight=1, bias=3)
def deform_conv(xp, g, y, x, w, offset, b=None, mask=None, *, varies, **said):
    varies = (*varies, False, False)
    parts = _Parts(xp, x, w, offset, mask, **said)
    arriving, reading = parts.arriving(g), parts.reading
    met = xp.matmul(_turned(xp, parts.kernel), arriving)
    columns = xp.reshape(met, reading.read[0].shape)
    given = [parts.masked(columns)] * len(reading.taps)
    to_x = xp.reshape_like(reading.back(given), x) if varies[0] else None
    to_w = to_offset = to_mask = None
    if varies[1]:
        seen = parts.grouped(parts.masked(reading.value()))
        to_w = xp.reshape_like(xp.sum(xp.matmul(arriving, _turned(xp, seen)), axis=0), w)
    if varies[2]:
        shape = (parts.rows, parts.taps, 1, parts.places)
        moved = [reading.to_places(given, axis) for axis in range(parts.window.rank)]
        joined = xp.concat([xp.reshape(part, shape) for part in moved], axis=2)
        to_offset = xp.reshape_like(joined, offset)
    if mask is not None and varies[4]:
        to_mask = xp.reshape_like(xp.sum(columns * reading.value(), axis=1), mask)
    axes = [axis for axis in range(g.ndim) if axis != 1]
    to_b = xp.sum(g, axis=axes) if b is not None and varies[3] else None
    return (to_x, to_w, to_offset, to_b, to_mask)
