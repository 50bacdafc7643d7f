"""Normalisations."""

from onnxexplain.ops._operator import operator


def _batch_norm(xp, x, scale, b, mean, var, *, epsilon=1e-5, **_):
    slope = scale / xp.sqrt(var + epsilon)
    return (x - xp.channel(mean, x)) * xp.channel(slope, x) + xp.channel(b, x)


def _batch_norm_offset(xp, y, x, scale, b, mean, var, *, varies, epsilon=1e-5, **_):
    return xp.channel(b - mean * (scale / xp.sqrt(var + epsilon)), y)


@operator(
    "BatchNormalization",
    role="normalisation",
    offset=_batch_norm_offset,
    forward=_batch_norm,
    fixed=(1, 2, 3, 4),
)
def batch_norm(xp, g, y, x, scale, b, mean, var, *, epsilon=1e-5, **_):
    return (g * xp.channel(scale / xp.sqrt(var + epsilon), x), None, None, None, None)
