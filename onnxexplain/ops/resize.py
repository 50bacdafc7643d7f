"""Resizing: every new position reads a few old ones, along one axis after the other."""

import math

from onnxexplain.ops._along import along
from onnxexplain.ops._operator import operator
from onnxexplain.tensor.resizing import Resizing, Row, float32, rows

_CROPS = "tf_crop_and_resize"


def _how(
    *,
    mode="nearest",
    coordinate_transformation_mode="half_pixel",
    nearest_mode="round_prefer_floor",
    cubic_coeff_a=-0.75,
    exclude_outside=0,
    antialias=0,
    **_,
):
    flags = bool(exclude_outside), bool(antialias)
    return Resizing(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, *flags)


def _sized(old, scales, asked, policy):
    """Return how many times longer each axis becomes, and how long.

    Either ``scales`` are given or the sizes ``asked`` for; where the aspect ratio is kept, one of
    the quotients is the scale of all axes.
    """
    if scales:
        return scales, [
            math.floor(float32(float32(s) * n)) for s, n in zip(scales, old, strict=True)
        ]
    found = [float32(m / n) for n, m in zip(old, asked, strict=True)]
    if policy == "stretch":
        return found, asked
    one = min(found) if policy == "not_larger" else max(found)
    return [one] * len(found), [math.floor(float32(one * n) + 0.5) for n in old]


def _resized(xp, x, roi, scales, sizes, axes=None, keep_aspect_ratio_policy="stretch", **said):
    """Return, per axis that is resized, what each new position reads of the old ones."""
    axes = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    old = [x.shape[a] for a in axes]
    given = [] if scales is None else xp.floats(scales)
    asked = [] if sizes is None else xp.integers(sizes)
    times, new = _sized(old, given, asked, keep_aspect_ratio_policy)
    if old == new:
        return {}  # the runtime copies, whatever the scales say
    part = [] if roi is None else xp.floats(roi)
    part = part or [0.0] * len(axes) + [1.0] * len(axes)
    how, found = _how(**said), {}
    for i, axis in enumerate(axes):
        reads = rows(old[i], new[i], times[i], how, (part[i], part[len(axes) + i]))
        if reads != tuple({j: 1.0} for j in range(old[i])):
            found[axis] = reads
    return found


def _times(reads: tuple[Row, ...], old: int) -> int:
    """How often each old position is repeated in a row, 0 where it is anything else."""
    times = len(reads) // old
    alike = times > 0 and all(row == {i // times: 1.0} for i, row in enumerate(reads))
    return times if alike and times * old == len(reads) else 0


def _outside(xp, like, resized, rank):
    """1 where a new position lies outside the old ones along any axis, else 0; None if nowhere."""
    outside = None
    for axis, reads in resized.items():
        if all(reads):
            continue
        column = [len(reads) if a == axis else 1 for a in range(rank)]
        beyond = xp.reshape(xp.constant([0.0 if row else 1.0 for row in reads], like), column)
        outside = beyond if outside is None else xp.maximum(outside, beyond)
    return outside


def _forward(xp, x, roi=None, scales=None, sizes=None, *, extrapolation_value=0.0, **said):
    y, resized = x, _resized(xp, x, roi, scales, sizes, **said)
    for axis, reads in resized.items():
        weights = [[row.get(j, 0.0) for j in range(x.shape[axis])] for row in reads]
        y = along(xp, y, axis, weights)
    outside = _outside(xp, x, resized, x.ndim) if _crops(**said) else None
    return y if outside is None else y + extrapolation_value * outside


def _crops(coordinate_transformation_mode="half_pixel", **_):
    return coordinate_transformation_mode == _CROPS


def _offset(
    xp, y, x, roi=None, scales=None, sizes=None, *, varies, extrapolation_value=0.0, **said
):
    """Outside what is cropped every position has a value of its own."""
    if not _crops(**said) or extrapolation_value == 0.0:
        return None
    outside = _outside(xp, y, _resized(xp, x, roi, scales, sizes, **said), x.ndim)
    return None if outside is None else extrapolation_value * outside


@operator("Resize", role="pooling", offset=_offset, forward=_forward, fixed=(1, 2, 3))
def resize(xp, g, y, x, roi=None, scales=None, sizes=None, *, extrapolation_value=0.0, **said):
    for axis, reads in _resized(xp, x, roi, scales, sizes, **said).items():
        old = x.shape[axis]
        times = _times(reads, old)
        if times:
            shape = (*g.shape[:axis], old, times, *g.shape[axis + 1 :])
            g = xp.sum(xp.reshape(g, shape), axis=axis + 1)
        else:
            g = along(xp, g, axis, [[row.get(j, 0.0) for row in reads] for j in range(old)])
    return (g, None, None, None)
