"""Reductions."""

from onnxexplain.ops._operator import operator


def _axes(xp, axes, noop_with_empty_axes):
    """The axes to reduce, None for all of them, an empty list for none."""
    if axes is not None and (listed := xp.integers(axes)):
        return listed
    return [] if noop_with_empty_axes else None


@operator("ReduceSum", role="reduction", fixed=(1,))
def reduce_sum(xp, g, y, x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    axes = _axes(xp, axes, noop_with_empty_axes)
    return (g if axes == [] else xp.spread_like(g, x, axes, bool(keepdims)), None)


@operator("ReduceMean", role="reduction", fixed=(1,))
def reduce_mean(xp, g, y, x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    axes = _axes(xp, axes, noop_with_empty_axes)
    if axes == []:
        return (g, None)
    return (xp.spread_like(g / xp.count(x, axes), x, axes, bool(keepdims)), None)
