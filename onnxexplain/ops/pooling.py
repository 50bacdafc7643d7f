"""Pools: a maximum goes to its winner, a mean to all alike."""

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
