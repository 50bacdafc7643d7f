"""Quantisation: rounding is stepped over, clipping is not.

These are functions that a lowered model carries with it: see ``graph/spelled/quantised``.
"""

from onnxexplain.ops._operator import none, operator

_DOMAIN = "onnxexplain"

_NEVER = float("inf")
"""The end of a grid that clips nothing there."""


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


def _kept(xp, g, x, scale, zero, axis, block_size, low, high):
    """What of ``g`` stands where ``x`` is rounded to a number of the grid, and not cut off."""
    step = _steps(xp, xp.cast_like(scale, x), x, axis, block_size)
    shift = _steps(xp, xp.cast_like(zero, x), x, axis, block_size)
    if low > -_NEVER:
        g = xp.where(x >= (low - 0.5 - shift) * step, g, 0.0)
    if high < _NEVER:
        g = xp.where(x <= (high + 0.5 - shift) * step, g, 0.0)
    return g


def _fake_quantize_offset(
    xp, y, x, scale, zero, *, varies, axis=1, block_size=0, low=0.0, high=255.0
):
    # On the grid: what rounding added. Beyond it: its end, which is a constant.
    return y - _kept(xp, x, x, scale, zero, axis, block_size, low, high)


@operator("FakeQuantize", domain=_DOMAIN, role="activation", offset=_fake_quantize_offset)
def fake_quantize(xp, g, y, x, scale, zero, *, axis=1, block_size=0, low=0.0, high=255.0):
    return (_kept(xp, g, x, scale, zero, axis, block_size, low, high), None, None)


@operator("DynamicGrid", domain=_DOMAIN, role="stop", offset=none)
def dynamic_grid(xp, g, y, x):
    return (None,)
