"""Sums and products that run along an axis."""

from onnxexplain.ops._operator import operator


@operator("CumSum", role="linear", fixed=(1,))
def cum_sum(xp, g, y, x, axis, *, exclusive=0, reverse=0):
    (axis,) = xp.integers(axis)
    to_x = xp.cumulative_sum(g, axis=axis, exclusive=bool(exclusive), reverse=not reverse)
    return (to_x, None)


# ----- Products: what is on both sides of an element, without dividing by it -----


def _along(x, axis, cut):
    cuts = [slice(None)] * x.ndim
    cuts[axis] = cut
    return cuts


def _later(xp, v, axis, steps):
    """What stands ``steps`` places further on; nothing beyond the end."""
    rest = xp.cut(v, _along(v, axis, slice(steps, None)))
    return xp.pad(rest, [0, steps], [axis])


def _before(xp, y, axis):
    """The products before each element, from those up to it."""
    first = xp.ones_like(xp.cut(y, _along(y, axis, slice(1)))) + xp.zeros_like(y)
    first = xp.cut(first, _along(y, axis, slice(1)))
    return xp.concat([first, xp.cut(y, _along(y, axis, slice(y.shape[axis] - 1)))], axis)


def _factors(xp, x, axis, exclusive):
    """How many factors each product has, along ``axis``."""
    counts = [float(i + (not exclusive)) for i in range(x.shape[axis])]
    return xp.reshape(xp.constant(counts, x), [-1 if a == axis else 1 for a in range(x.ndim)])


def _cum_prod_offset(xp, y, x, axis, *, varies, exclusive=0, reverse=0):
    (axis,) = xp.integers(axis)
    many = _factors(xp, x, axis % x.ndim, bool(exclusive))
    if reverse:
        many = xp.cut(many, _along(many, axis % x.ndim, slice(None, None, -1)))
    return (1.0 - many) * y


@operator("CumProd", role="product", offset=_cum_prod_offset, fixed=(1,))
def cum_prod(xp, g, y, x, axis, *, exclusive=0, reverse=0):
    axis = xp.integers(axis)[0] % x.ndim
    if reverse:
        g, y, x = (xp.cut(v, _along(v, axis, slice(None, None, -1))) for v in (g, y, x))
    before = y if exclusive else _before(xp, y, axis)
    after = _later(xp, g, axis, 1) if exclusive else g
    # after[j] = g[j] + x[j+1] after[j+1], composed over 1, 2, 4, ... places at once.
    factor, step = _later(xp, x, axis, 1), 1
    while step < x.shape[axis]:
        after = after + factor * _later(xp, after, axis, step)
        factor = factor * _later(xp, factor, axis, step)
        step *= 2
    to_x = before * after
    return (xp.cut(to_x, _along(x, axis, slice(None, None, -1))) if reverse else to_x, None)
