"""Pools: a maximum goes to its winner, a mean to all alike, a norm by size; and unpooling."""

import math

from onnxexplain.ops._operator import operator
from onnxexplain.tensor import Window


def _first(value):
    """The pooled values, where the node gives indices too."""
    return value[0] if isinstance(value, tuple) else value


@operator("MaxPool", role="pooling")
def max_pool(xp, g, y, x, *, kernel_shape, strides=None, dilations=None, pads=None, **_):
    window = Window.of(kernel_shape, strides, dilations, pads)
    return (xp.max_pool_route(_first(g), _first(y), x, window),)


@operator("AveragePool", role="pooling")
def average_pool(
    xp, g, y, x, *, kernel_shape, strides=None, dilations=None, pads=None, count_include_pad=0, **_
):
    window = Window.of(kernel_shape, strides, dilations, pads)
    return (xp.average_pool_like(g, x, window, bool(count_include_pad)),)


@operator("GlobalAveragePool", role="pooling")
def global_average_pool(xp, g, y, x):
    axes = range(2, x.ndim)
    return (xp.spread_like(g / xp.count(x, axes), x, axes, True),)


@operator("GlobalMaxPool", role="pooling")
def global_max_pool(xp, g, y, x):
    return (xp.max_pool_route(g, y, x, Window.of(x.shape[2:])),)


# ----- Norms: each element by its part in the sum of powers -----


def _by_norm(xp, g, y, p):
    """``g`` divided by the norm's own power; where the norm is 0 it has no slope."""
    there = y > 0
    return xp.where(there, g * xp.pow(xp.where(there, y, 1.0), 1.0 - p), 0.0)


def _powers(xp, x, p):
    return xp.sign(x) * xp.pow(xp.abs(x), p - 1.0)


def _ones(xp, x, window):
    """The kernel of a sum over every window, channel by channel."""
    shape = (x.shape[1], 1, *window.kernel)
    return xp.reshape(xp.constant([1.0] * math.prod(shape), x), shape)


def _lp_pool(
    xp, x, *, kernel_shape, p=2, strides=None, dilations=None, pads=None, ceil_mode=0, **_
):
    window = Window.of(kernel_shape, strides, dilations, pads)
    if ceil_mode:
        window = _overhanging(window, x.shape[2:])
    total = xp.conv(xp.pow(xp.abs(x), float(p)), _ones(xp, x, window), None, window, x.shape[1])
    return xp.pow(total, 1.0 / p)


def _overhanging(window, sizes):
    """The window with as much padding at the end as a last one that overhangs needs."""
    ends = []
    for i, n in enumerate(sizes):
        begin, end = window.pads[i], window.pads[window.rank + i]
        steps, left = divmod(n + begin + end - window.reach[i], window.strides[i])
        more = left and (steps + 1) * window.strides[i] < n + begin
        ends.append(end + (window.strides[i] - left if more else 0))
    pads = (*window.pads[: window.rank], *ends)
    return Window(window.kernel, window.strides, window.dilations, pads)


@operator("LpPool", role="pooling", forward=_lp_pool)
def lp_pool(xp, g, y, x, *, kernel_shape, p=2, strides=None, dilations=None, pads=None, **_):
    window = Window.of(kernel_shape, strides, dilations, pads)
    sent = _by_norm(xp, g, y, p)
    back = xp.conv_transpose_like(sent, _ones(xp, x, window), x, window, x.shape[1])
    return (back * _powers(xp, x, p),)


def _global_lp_pool(xp, x, *, p=2):
    total = xp.sum(xp.pow(xp.abs(x), float(p)), axis=list(range(2, x.ndim)), keepdims=True)
    return xp.pow(total, 1.0 / p)


@operator("GlobalLpPool", role="pooling", forward=_global_lp_pool)
def global_lp_pool(xp, g, y, x, *, p=2):
    return (_by_norm(xp, g, y, p) * _powers(xp, x, p),)


# ----- Unpooling: every element goes to the place that an index names -----


@operator("MaxUnpool", role="routing", fixed=(1, 2))
def max_unpool(xp, g, y, x, indices, output_shape=None, **_):
    """Of elements that go to one place, one is there: those equal to it share what arrives."""
    there = xp.where(xp.equal(xp.pick(y, indices), x), xp.ones_like(x), 0.0)
    count = xp.pick(xp.put_like(there, indices, y), indices)
    return (xp.pick(g, indices) * there / count, None, None)
