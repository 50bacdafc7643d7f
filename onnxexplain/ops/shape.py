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


# ----- Padded -----


def _pad_axes(xp, x, axes):
    return list(range(x.ndim)) if axes is None else [a % x.ndim for a in xp.integers(axes)]


def _pad_offset(xp, y, x, pads, value=None, axes=None, *, varies, mode="constant"):
    if value is None:
        return None
    return y - xp.pad(x, xp.integers(pads), _pad_axes(xp, x, axes))


@operator("Pad", role="routing", offset=_pad_offset, fixed=(1, 2, 3))
def pad(xp, g, y, x, pads, value=None, axes=None, *, mode="constant"):
    if mode != "constant":
        raise NotImplementedError(f"mode `{mode}`")
    where = _pad_axes(xp, x, axes)
    return (xp.unpad_like(g, x, xp.integers(pads), where), None, None, None)


# ----- No derivative: what they give is a constant to what follows -----


@operator("Shape", role="stop", offset=none)
def shape(xp, g, y, x, **_):
    return (None,)


@operator("Size", role="stop", offset=none)
def size(xp, g, y, x):
    return (None,)
