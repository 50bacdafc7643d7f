"""Reductions: sums, means, norms, extremes and products over axes."""

from onnxexplain.ops._operator import none, operator


def _axes(xp, x, axes, noop_with_empty_axes):
    """The axes to reduce; none at all where that is asked for."""
    if axes is not None and (listed := xp.integers(axes)):
        return [a % x.ndim for a in listed]
    return [] if noop_with_empty_axes else list(range(x.ndim))


def _spread(xp, v, x, axes):
    """Undo the reduction of ``x``: give every element what its group has."""
    return xp.spread_like(v, x, axes, True) if axes else v


def _total(xp, x, axes):
    return xp.sum(x, axis=axes, keepdims=True) if axes else x


def _column(xp, v, x, axes):
    """A reduced tensor with the axes it lost."""
    return xp.reshape(v, [1 if a in axes else n for a, n in enumerate(x.shape)])


def _reduction(name, slope, offset=None):
    """Register a reduction: ``slope(xp, g, y, x, axes)``, its ``y`` with every axis of ``x``."""

    def held(xp, y, x, axes=None, *, varies, keepdims=1, noop_with_empty_axes=0):
        axes = _axes(xp, x, axes, noop_with_empty_axes)
        return xp.reshape_like(offset(xp, _column(xp, y, x, axes), x, axes), y)

    @operator(name, role="reduction", offset=held if offset else none, fixed=(1,))
    def back(xp, g, y, x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        axes = _axes(xp, x, axes, noop_with_empty_axes)
        g, y = (_column(xp, v, x, axes) for v in (g, y))
        return (slope(xp, g, y, x, axes), None)

    return back


# ----- Sums -----


@operator("ReduceSum", role="reduction", fixed=(1,))
def reduce_sum(xp, g, y, x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    axes = _axes(xp, x, axes, noop_with_empty_axes)
    return (_spread(xp, g, x, axes), None)


@operator("ReduceMean", role="reduction", fixed=(1,))
def reduce_mean(xp, g, y, x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    axes = _axes(xp, x, axes, noop_with_empty_axes)
    return (_spread(xp, g / xp.count(x, axes), x, axes) if axes else g, None)


# ----- Norms: of twice the input they are twice as large, but for the square -----


def _of_absolutes(xp, g, y, x, axes):
    return g * xp.sign(x)


def _of_squares(xp, g, y, x, axes):
    return (g + g) * x


def _length(xp, g, y, x, axes):
    # A length of nothing has no direction.
    return xp.where(y > 0, g / xp.where(y > 0, y, 1.0), 0.0) * x


_reduction("ReduceL1", _of_absolutes)
_reduction("ReduceL2", _length)
_reduction("ReduceSumSquare", _of_squares, lambda xp, y, x, axes: -y)


# ----- Logarithms of sums -----


def _log_sum(xp, g, y, x, axes):
    total = _total(xp, x, axes)
    some = xp.abs(total) > 0  # the logarithm of nothing is infinitely steep, which counts as flat
    return _spread(xp, xp.where(some, g / xp.where(some, total, 1.0), 0.0), x, axes)


def _log_sum_offset(xp, y, x, axes):
    return xp.where(xp.abs(_total(xp, x, axes)) > 0, y - 1.0, y)


def _weights(xp, y, x):
    """Of the exponentials, each one's part of their sum."""
    some = y > -3e38  # else they are all exp(-inf), and there is nothing to divide
    return xp.where(some, xp.exp(x - xp.where(some, y, 0.0)), 0.0)


def _log_sum_exp(xp, g, y, x, axes):
    return g * _weights(xp, y, x)


def _log_sum_exp_offset(xp, y, x, axes):
    return y - _total(xp, xp.scale(_weights(xp, y, x), x), axes)


_reduction("ReduceLogSum", _log_sum, _log_sum_offset)
_reduction("ReduceLogSumExp", _log_sum_exp, _log_sum_exp_offset)


# ----- Extremes: all to the winner; of several, to the first or to all alike -----


def _extreme(xp, g, y, x, axes):
    won = xp.equal(x, y)
    if xp.ties == "share":
        ones = xp.where(won, xp.ones_like(x), 0.0)
        return ones * (g / _total(xp, ones, axes))
    place, many = _places(xp, x, axes)
    mine = xp.where(won, place, many)
    first = xp.equal(mine, xp.min(mine, axis=axes, keepdims=True)) if axes else won
    return xp.where(first, g, 0.0)


def _places(xp, x, axes):
    """The number of each element among those reduced with it, in row-major order; how many."""
    place, many = xp.indices([0], x), 1
    for axis in sorted(axes, reverse=True):
        column = xp.indices([many * i for i in range(x.shape[axis])], x)
        place = place + xp.reshape(column, [-1 if a == axis else 1 for a in range(x.ndim)])
        many *= x.shape[axis]
    return place, many


_reduction("ReduceMax", _extreme)
_reduction("ReduceMin", _extreme)


# ----- Products: each element's slope is the product of all the others -----


def _product(xp, g, y, x, axes):
    none = xp.equal(x, 0.0)
    zeros = _total(xp, xp.where(none, xp.ones_like(x), 0.0), axes)
    safe = xp.where(none, 1.0, x)
    # With one zero, the others' product is what it leaves out; with more, all are flat.
    rest = xp.prod(safe, axis=axes, keepdims=True) if axes else safe
    to_zero = xp.where(zeros < 1.5, g * rest, 0.0)
    return xp.where(none, to_zero, g * y / safe)


def _product_offset(xp, y, x, axes):
    return (1.0 - xp.count(x, axes)) * y


_reduction("ReduceProd", _product, _product_offset)


# ----- Which one is the extreme: flat wherever it has a derivative -----


def _all(xp, y, x, *, varies, **_):
    return y


@operator("Hardmax", role="stop", offset=_all)
def hardmax(xp, g, y, x, *, axis=-1):
    return (None,)


@operator("ArgMax", role="stop")
def arg_max(xp, g, y, x, **_):
    return (None,)


@operator("ArgMin", role="stop")
def arg_min(xp, g, y, x, **_):
    return (None,)
