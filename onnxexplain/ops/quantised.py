"""Quantisation: rounding is stepped over, clipping is not.

These are functions that a lowered model carries with it: see ``graph/spelled/quantised``.
"""

from onnxexplain.ops._operator import none, operator

_DOMAIN = "onnxexplain"

_ENDLESS = float("inf")
"""The reach of a grid that clips nothing."""


def _steps(xp, steps, x, axis, block_size):
    """The steps of a grid so that they broadcast against ``x``."""
    if steps.ndim == 0 or steps.shape == (1,):
        return steps
    axis = axis % x.ndim
    if steps.ndim == 1:
        return xp.reshape(steps, [-1 if i == axis else 1 for i in range(x.ndim)])
    before, many, after = steps.shape[:axis], steps.shape[axis], steps.shape[axis + 1 :]
    apart = xp.reshape(steps, (*before, many, 1, *after))
    each = xp.broadcast_to(apart, (*before, many, block_size, *after))
    every = xp.reshape(each, (*before, many * block_size, *after))
    cuts = [slice(None)] * x.ndim
    cuts[axis] = slice(0, x.shape[axis])
    return xp.cut(every, cuts)


def _inside(xp, x, scale, zero, axis, block_size, low, high):
    """Where ``x`` lies on the grid, and is only rounded."""
    step = _steps(xp, xp.cast_like(scale, x), x, axis, block_size)
    shift = _steps(xp, xp.cast_like(zero, x), x, axis, block_size)
    whole = xp.round(x / step)
    return xp.logical_and(whole >= low - shift, whole <= high - shift)


def _fake_quantize_offset(
    xp, y, x, scale, zero, *, varies, axis=1, block_size=0, low=0.0, high=255.0
):
    # Inside: what rounding added. Outside: the end of the grid, which is a constant.
    if high - low == _ENDLESS:
        return y - x
    return xp.where(_inside(xp, x, scale, zero, axis, block_size, low, high), y - x, y)


@operator("FakeQuantize", domain=_DOMAIN, role="activation", offset=_fake_quantize_offset)
def fake_quantize(xp, g, y, x, scale, zero, *, axis=1, block_size=0, low=0.0, high=255.0):
    if high - low == _ENDLESS:
        return (g, None, None)
    inside = _inside(xp, x, scale, zero, axis, block_size, low, high)
    return (xp.where(inside, g, 0.0), None, None)


@operator("DynamicGrid", domain=_DOMAIN, role="stop", offset=none)
def dynamic_grid(xp, g, y, x):
    return (None,)
