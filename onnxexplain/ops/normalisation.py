"""Normalisations: statistics of the input divide it, and have derivatives of their own.

Scaled up, an input comes out as it was, but for ``epsilon``: hardly anything of a normalised
tensor is linear in it. So ``J x`` is small and the offset ``y - J x`` nearly all of ``y``.
"""

import math

from onnxexplain.ops._operator import HELD, operator

# ----- By constants: statistics that were learnt -----


def _batch_norm(xp, x, scale, b, mean, var, *, epsilon=1e-5, **_):
    slope = scale / xp.sqrt(var + epsilon)
    return (x - xp.channel(mean, x)) * xp.channel(slope, x) + xp.channel(b, x)


def _batch_norm_offset(xp, y, x, scale, b, mean, var, *, varies, epsilon=1e-5, **_):
    slope = scale / xp.sqrt(var + epsilon)
    if varies == (True, False, False, False, False):
        return xp.channel(b - mean * slope, y)
    scaled = y - xp.channel(b, y)
    # One part per input: where it varies, its derivative times itself is taken away.
    parts = (
        x * xp.channel(slope, x),
        scaled,
        xp.channel(b, y),
        -xp.channel(mean * slope, y),
        -0.5 * scaled * xp.channel(var / (var + epsilon), y),
    )
    return y - sum(part for part, moves in zip(parts, varies, strict=True) if moves)


@operator(
    "BatchNormalization", role="normalisation", offset=_batch_norm_offset, forward=_batch_norm
)
def batch_norm(
    xp, g, y, x, scale, b, mean, var, *, varies, epsilon=1e-5, training_mode=0, momentum=0.9
):
    if training_mode:
        raise NotImplementedError("training_mode=1: its statistics are those of the whole batch")
    inverse = 1.0 / xp.sqrt(var + epsilon)
    slope, axes = scale * inverse, [a for a in range(x.ndim) if a != 1]
    to_x = g * xp.channel(slope, x) if varies[0] else None
    if not any(varies[1:]):
        return (to_x, None, None, None, None)
    to_b = xp.sum(g, axis=axes)
    around = xp.sum(g * (x - xp.channel(mean, x)), axis=axes)
    to_var = -0.5 * around * slope * inverse * inverse
    return (to_x, around * inverse, to_b, -to_b * slope, to_var)


# ----- By its own mean and deviation, then scaled and shifted -----


def _standard(xp, x, axes, epsilon, centred=True):
    """``x`` less its mean over ``axes``, over its deviation; and one over that deviation."""
    if centred:
        x = x - xp.mean(x, axis=axes, keepdims=True)
    inverse = 1.0 / xp.sqrt(xp.mean(x * x, axis=axes, keepdims=True) + epsilon)
    return x * inverse, inverse


def _standard_back(xp, g, n, inverse, axes, centred=True):
    """From what arrives at ``n`` to what it was made of."""
    g = g - n * xp.mean(g * n, axis=axes, keepdims=True)
    if centred:
        g = g - xp.mean(g, axis=axes, keepdims=True)
    return g * inverse


def _layer(xp, x, *, axis=-1, **_):
    """A layer: from ``axis`` on; its parameters broadcast by themselves."""
    return x, list(range(axis % x.ndim, x.ndim)), lambda v: v


def _instance(xp, x, **_):
    """A channel of a sample."""
    return x, list(range(2, x.ndim)), lambda v: xp.channel(v, x)


def _grouped(xp, x, groups):
    """The elements of each group of channels in a row."""
    return xp.reshape(x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups))


def _group(xp, x, *, num_groups, **_):
    """Several channels of a sample; a parameter per channel, or (opset 18) one per group."""
    channels = x.shape[1]

    def shaped(v):
        column = xp.reshape(v, (v.shape[0], 1))
        each = xp.broadcast_to(column, (v.shape[0], channels // v.shape[0]))
        return xp.channel(xp.reshape(each, (channels,)), x)

    return _grouped(xp, x, num_groups), [2], shaped


def _unshaped(xp, g, v, x):
    """From what arrives at a parameter, in the shape of ``x``, to the parameter ``v`` itself."""
    if v.shape[0] == x.shape[1]:
        return xp.sum(g, axis=[a for a in range(x.ndim) if a != 1])
    return xp.sum(_grouped(xp, g, v.shape[0]), axis=[0, 2])


def _normalisation(name, view, unshaped, centred=True, domain=""):
    """Register a normalisation; ``view`` tells of what it is, ``unshaped`` undoes its shaping.

    Held, its statistics count as constants.
    """

    def offset(xp, y, x, scale, b=None, *, varies, epsilon=1e-5, **said):
        grouped, axes, shaped = view(xp, x, **said)
        n, inverse = _standard(xp, grouped, axes, epsilon, centred)
        wide, held = shaped(scale), y
        if varies[0]:
            linear = grouped * inverse if domain else n * (epsilon * inverse * inverse)
            held = held - wide * xp.reshape_like(linear, x)
        if varies[1]:
            held = held - wide * xp.reshape_like(n, x)
        return held - shaped(b) if b is not None and varies[2] else held

    @operator(name, role="normalisation", domain=domain, offset=offset)
    def back(xp, g, y, x, scale, b=None, *, varies, epsilon=1e-5, **said):
        g, *statistics = g if isinstance(g, tuple) else (g,)
        grouped, axes, shaped = view(xp, x, **said)
        n, inverse = _standard(xp, grouped, axes, epsilon, centred)
        if g is None:  # only its statistics are read
            g = xp.zeros_like(x)
        to_x = None
        if varies[0]:
            arrived = xp.reshape_like(g * shaped(scale), grouped)
            if domain:
                to_x = arrived * inverse
            else:
                to_x = _standard_back(xp, arrived, n, inverse, axes, centred)
                to_x = _read(xp, to_x, statistics, n, inverse, axes)
            to_x = xp.reshape_like(to_x, x)
        return (
            to_x,
            unshaped(xp, g * xp.reshape_like(n, x), scale, x) if varies[1] else None,
            unshaped(xp, g, b, x) if b is not None and varies[2] else None,
        )

    return back


def _read(xp, to_x, statistics, n, inverse, axes):
    """Add what arrives at the mean and at one over the deviation, where they are outputs."""
    many = xp.count(n, axes)
    for g, slope in zip(statistics, (1.0 / many, -inverse * inverse * n / many), strict=False):
        if g is not None:
            to_x = to_x + g * slope
    return to_x


def _broadcast(xp, g, v, x):
    return xp.sum_like(g, v)


for _domain in ("", HELD):
    _normalisation("LayerNormalization", _layer, _broadcast, domain=_domain)
    _normalisation("RMSNormalization", _layer, _broadcast, centred=False, domain=_domain)
    _normalisation("InstanceNormalization", _instance, _unshaped, domain=_domain)
    _normalisation("GroupNormalization", _group, _unshaped, domain=_domain)


# ----- By its own mean and deviation, and nothing else -----

_APART = 1e-9
"""What the standard adds to the deviation here."""


def _mean_variance(xp, x, axes):
    """``x`` centred, its deviation, and one over what divides it (0 where all are equal)."""
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    deviation = xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True))
    return centred, deviation, xp.where(deviation > 0, 1.0 / (deviation + _APART), 0.0)


def _mean_variance_offset(xp, y, x, *, varies, axes=(0, 2, 3)):
    _, deviation, inverse = _mean_variance(xp, x, list(axes))
    return y * (deviation * inverse)


@operator("MeanVarianceNormalization", role="normalisation", offset=_mean_variance_offset)
def mean_variance_norm(xp, g, y, x, *, axes=(0, 2, 3)):
    axes = list(axes)
    centred, deviation, inverse = _mean_variance(xp, x, axes)
    steep = inverse * inverse / xp.where(deviation > 0, deviation, 1.0)
    along = steep * xp.mean(g * centred, axis=axes, keepdims=True)
    return (inverse * (g - xp.mean(g, axis=axes, keepdims=True)) - centred * along,)


def _mean_variance_held_offset(xp, y, x, *, varies, axes=(0, 2, 3)):
    return y - x * _mean_variance(xp, x, list(axes))[2]


@operator(
    "MeanVarianceNormalization",
    role="normalisation",
    domain=HELD,
    offset=_mean_variance_held_offset,
)
def mean_variance_held(xp, g, y, x, *, axes=(0, 2, 3)):
    return (g * _mean_variance(xp, x, list(axes))[2],)


# ----- By its own length -----


def _inverse_length(xp, x, axis, p):
    size = xp.abs(x) if p == 1 else x * x
    length = xp.sum(size, axis=axis, keepdims=True)
    length = length if p == 1 else xp.sqrt(length)
    return xp.where(length > 0, 1.0 / xp.where(length > 0, length, 1.0), 0.0)


def _all(xp, y, *inputs, varies, **_):
    # Of any multiple of the input the result is the same: nothing of it is linear.
    return y


@operator("LpNormalization", role="normalisation", offset=_all)
def lp_norm(xp, g, y, x, *, axis=-1, p=2):
    direction = xp.sign(x) if p == 1 else y
    along = direction * xp.sum(g * y, axis=axis, keepdims=True)
    return (_inverse_length(xp, x, axis, p) * (g - along),)


@operator("LpNormalization", role="normalisation", domain=HELD)
def lp_held(xp, g, y, x, *, axis=-1, p=2):
    return (g * _inverse_length(xp, x, axis, p),)


# ----- By the channels around -----


def _around(xp, v, before, after):
    """The sum of each channel, ``before`` channels before it and ``after`` after it."""
    channels = v.shape[1]
    padded = xp.pad(v, [before, after], [1])
    parts = [
        xp.cut(padded, (slice(None), slice(k, k + channels))) for k in range(before + after + 1)
    ]
    return sum(parts[1:], parts[0])


def _reach(size):
    return (size - 1) // 2, size // 2


def _divisor(xp, x, *, size, alpha, bias):
    return bias + (alpha / size) * _around(xp, x * x, *_reach(size))


def _lrn_offset(xp, y, x, *, varies, size, alpha=1e-4, beta=0.75, bias=1.0):
    divisor = _divisor(xp, x, size=size, alpha=alpha, bias=bias)
    return y * (2.0 * beta * (1.0 - bias / divisor))


@operator("LRN", role="normalisation", offset=_lrn_offset)
def lrn(xp, g, y, x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    divisor = _divisor(xp, x, size=size, alpha=alpha, bias=bias)
    before, after = _reach(size)
    others = _around(xp, g * y / divisor, after, before)
    return (g * xp.pow(divisor, -beta) - (2.0 * alpha * beta / size) * x * others,)


@operator("LRN", role="normalisation", domain=HELD)
def lrn_held(xp, g, y, x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    return (g * xp.pow(_divisor(xp, x, size=size, alpha=alpha, bias=bias), -beta),)
