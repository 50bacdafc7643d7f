"""Operators that move elements and change none."""

from onnxexplain.ops._operator import none, operator

# ----- The same elements in another shape -----


@operator("Identity", role="routing")
def identity(xp, g, y, x):
    return (g,)


@operator("Cast", role="routing")
def cast(xp, g, y, x, **_):
    # Only casts between floats are on the way, and those are of one type once lowered.
    return (g,)


@operator("Flatten", role="routing")
def flatten(xp, g, y, x, *, axis=1):
    return (xp.reshape_like(g, x),)


@operator("Reshape", role="routing", fixed=(1,))
def reshape(xp, g, y, x, shape=None, *, allowzero=0):
    return (xp.reshape_like(g, x), None)


@operator("Squeeze", role="routing", fixed=(1,))
def squeeze(xp, g, y, x, axes=None):
    return (xp.reshape_like(g, x), None)


@operator("Unsqueeze", role="routing", fixed=(1,))
def unsqueeze(xp, g, y, x, axes=None):
    return (xp.reshape_like(g, x), None)


@operator("Transpose", role="routing")
def transpose(xp, g, y, x, *, perm=None):
    perm = list(perm) if perm else list(reversed(range(x.ndim)))
    return (xp.permute_dims(g, axes=[perm.index(axis) for axis in range(len(perm))]),)


# ----- Cut -----


def _cuts(xp, x, starts, ends, axes, steps):
    starts, ends = xp.integers(starts), xp.integers(ends)
    axes = list(range(len(starts))) if axes is None else xp.integers(axes)
    steps = [1] * len(starts) if steps is None else xp.integers(steps)
    cuts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = _cut(start, end, step, x.shape[axis])
    return cuts


def _cut(start, end, step, many):
    """A Python slice that means what the standard does."""
    if step > 0 or end >= 0 or end + many >= 0:
        return slice(start, end, step)
    return slice(start, None, step)  # past the first element, going down


@operator("Slice", role="routing", fixed=(1, 2, 3, 4))
def slice_(xp, g, y, x, starts, ends, axes=None, steps=None):
    return (xp.uncut_like(g, x, _cuts(xp, x, starts, ends, axes, steps)), None, None, None, None)


@operator("Split", role="routing", fixed=(1,))
def split(xp, g, y, x, split=None, *, axis=0, num_outputs=None):
    if not isinstance(y, tuple):
        return (g, None)
    parts = [xp.zeros_like(part) if one is None else one for one, part in zip(g, y, strict=True)]
    return (xp.concat(parts, axis), None)


# ----- Repeated -----


@operator("Expand", role="routing", fixed=(1,))
def expand(xp, g, y, x, shape):
    return (xp.sum_like(g, x), None)


@operator("Tile", role="routing", fixed=(1,))
def tile(xp, g, y, x, repeats):
    times = xp.integers(repeats)
    apart = [n for pair in zip(times, x.shape, strict=True) for n in pair]
    total = xp.sum(xp.reshape(g, apart), axis=list(range(0, 2 * x.ndim, 2)))
    return (xp.reshape_like(total, x), None)


# ----- Joined -----


def _concat_offset(xp, y, *parts, varies, axis):
    if all(varies):
        return None
    held = [
        xp.zeros_like(part) if moves else part for part, moves in zip(parts, varies, strict=True)
    ]
    return xp.concat(held, axis)


@operator("Concat", role="routing", offset=_concat_offset)
def concat(xp, g, y, *parts, axis):
    return xp.split_like(g, parts, axis)


# ----- No derivative: what they give is a constant to what follows -----


@operator("Shape", role="stop", offset=none)
def shape(xp, g, y, x, **_):
    return (None,)


@operator("Size", role="stop", offset=none)
def size(xp, g, y, x):
    return (None,)


@operator("ConstantOfShape", role="stop", offset=none)
def constant_of_shape(xp, g, y, shape, **_):
    return (None,)


@operator("Range", role="stop", offset=none)
def range_(xp, g, y, start, limit, delta, **_):
    return (None, None, None)


@operator("EyeLike", role="stop", offset=none)
def eye_like(xp, g, y, x, **_):
    return (None,)
