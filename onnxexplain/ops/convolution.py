"""Convolution: its way back is the transposed convolution."""

from onnxexplain.ops._operator import operator
from onnxexplain.tensor import Window


def _window(w, kernel_shape=None, strides=None, dilations=None, pads=None, **_):
    return Window.of(kernel_shape or w.shape[2:], strides, dilations, pads)


def _conv(xp, x, w, b=None, *, group=1, **geometry):
    return xp.conv(x, w, b, _window(w, **geometry), group)


def _bias(xp, y, x, w, b=None, *, varies, **_):
    return None if b is None else xp.channel(b, y)


@operator("Conv", role="linear", offset=_bias, forward=_conv, weight=1, bias=2, fixed=(1, 2))
def conv(xp, g, y, x, w, b=None, *, group=1, **geometry):
    return (xp.conv_transpose_like(g, w, x, _window(w, **geometry), group), None, None)
