"""Convolution, and the transposed convolution: each is the other's way back."""

from onnxexplain.ops._operator import operator
from onnxexplain.tensor import Window


def _window(w, kernel_shape=None, strides=None, dilations=None, pads=None, **_):
    return Window.of(kernel_shape or w.shape[2:], strides, dilations, pads)


def _offset(xp, y, x, w, b=None, *, varies, **_):
    """The bias; and a product of two that vary counts them twice."""
    bias = None if b is None else xp.channel(b, y)
    held = None if b is None or varies[2] else bias
    if varies[0] != varies[1]:
        return held
    product = y if b is None else y - bias
    product = -product if varies[0] else product
    return product if held is None else held + product


def _to_weight(xp, g, x, window, group, kernel):
    """The derivative at the weights of a convolution from ``x`` to where ``g`` arrives.

    It is a convolution itself, of what was seen by what arrives, samples and channels exchanged:
    steps become dilations and dilations steps.
    """
    n, inner, outer = x.shape[0], x.shape[1] // group, g.shape[1]
    spatial = list(range(2, x.ndim))
    apart = xp.reshape(x, (n, group, inner, *x.shape[2:]))
    seen = xp.permute_dims(apart, (2, 1, 0, *(a + 1 for a in spatial)))
    seen = xp.reshape(seen, (inner, group * n, *x.shape[2:]))
    turned = Window(tuple(g.shape[2:]), window.dilations, window.strides, window.pads)
    met = xp.conv(seen, xp.permute_dims(g, (1, 0, *spatial)), None, turned, group)
    met = xp.cut(met, (slice(inner), slice(outer), *map(slice, kernel)))
    return xp.permute_dims(met, (1, 0, *spatial))


def _to_bias(xp, g):
    return xp.sum(g, axis=[a for a in range(g.ndim) if a != 1])


# ----- Convolution -----


def _conv(xp, x, w, b=None, *, group=1, **geometry):
    return xp.conv(x, w, b, _window(w, **geometry), group)


@operator("Conv", role="linear", offset=_offset, forward=_conv, weight=1, bias=2)
def conv(xp, g, y, x, w, b=None, *, varies, group=1, **geometry):
    window = _window(w, **geometry)
    return (
        xp.conv_transpose_like(g, w, x, window, group) if varies[0] else None,
        _to_weight(xp, g, x, window, group, w.shape[2:]) if varies[1] else None,
        _to_bias(xp, g) if b is not None and varies[2] else None,
    )


# ----- Transposed -----


def _transposed(w, output_padding=None, **geometry):
    """The window, and how many positions at the end of each axis no window reaches.

    Output padding first takes the padding at the end away, which was cut off.
    """
    window = _window(w, **geometry)
    rank = window.rank
    extra = output_padding or (0,) * rank
    ends = [p - e for p, e in zip(window.pads[rank:], extra, strict=True)]
    pads = (*window.pads[:rank], *(max(end, 0) for end in ends))
    bare = Window(window.kernel, window.strides, window.dilations, pads)
    return bare, [max(-end, 0) for end in ends]


def _reached(xp, y, spare):
    return xp.pad(y, [0] * len(spare) + [-n for n in spare], range(2, y.ndim))


def _conv_transpose(xp, x, w, b=None, *, group=1, **geometry):
    window, spare = _transposed(w, **geometry)
    rank = window.rank
    sizes = [
        (n - 1) * s + reach - window.pads[i] - window.pads[rank + i]
        for i, (n, s, reach) in enumerate(
            zip(x.shape[2:], window.strides, window.reach, strict=True)
        )
    ]
    shape = (x.shape[0], group * w.shape[1], *sizes)
    like = xp.broadcast_to(xp.constant(0.0, x), shape)
    y = xp.conv_transpose_like(x, w, like, window, group)
    y = xp.pad(y, [0] * rank + spare, range(2, y.ndim))
    return y if b is None else y + xp.channel(b, y)


@operator("ConvTranspose", role="linear", offset=_offset, forward=_conv_transpose, weight=1, bias=2)
def conv_transpose(xp, g, y, x, w, b=None, *, varies, group=1, **geometry):
    window, spare = _transposed(w, **geometry)
    reached = _reached(xp, g, spare)
    return (
        xp.conv(reached, w, None, window, group) if varies[0] else None,
        _to_weight(xp, x, reached, window, group, w.shape[2:]) if varies[1] else None,
        _to_bias(xp, g) if b is not None and varies[2] else None,
    )
