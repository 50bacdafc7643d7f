"""RoiAlign: regions of interest sampled between the positions, pooled bin by bin."""

import itertools
import math
from dataclasses import dataclass

from onnxexplain.ops import _sampling
from onnxexplain.ops._operator import operator
from onnxexplain.ops._sampling import Reading
from onnxexplain.tensor import Tensor
from onnxexplain.tensor.resizing import float32


@dataclass(frozen=True)
class _How:
    """The attributes."""

    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0
    mode: str = "avg"
    coordinate_transformation_mode: str = "half_pixel"

    @property
    def sizes(self):
        return self.output_height, self.output_width

    @property
    def shift(self):
        return 0.5 if self.coordinate_transformation_mode == "half_pixel" else 0.0


@dataclass(frozen=True)
class _Axis:
    """The samples' places along one axis [R,P], and how they move with the region's two ends."""

    at: Tensor
    counts: Tensor
    moves: tuple[Tensor, Tensor]


# ----- How often each bin is sampled -----


def _groups(xp, rois, how):
    """Yield how often bins are sampled along each axis, and which regions so (None: all)."""
    if how.sampling_ratio > 0:
        yield (how.sampling_ratio,) * 2, None
        return
    found: dict[tuple[int, int], list[int]] = {}
    values = xp.floats(rois)
    for row in range(rois.shape[0]):
        x1, y1, x2, y2 = values[4 * row : 4 * row + 4]
        counts = _times(y1, y2, how.sizes[0], how), _times(x1, x2, how.sizes[1], how)
        found.setdefault(counts, []).append(row)
    for counts, members in found.items():
        if min(counts) > 0:
            yield counts, None if len(found) == 1 else xp.indices(members, rois)


def _times(first, last, bins, how):
    """Once per position that a bin spans, in the runtime's float32."""
    ends = [float32(float32(v * how.spatial_scale) - how.shift) for v in (first, last)]
    extent = float32(ends[1] - ends[0])
    return math.ceil(float32((extent if how.shift else max(extent, 1.0)) / bins))


# ----- The samples -----


def _axis(xp, rois, axis, n, how, fractions):
    first, last = (xp.cut(rois, (slice(None), slice(c, c + 1))) for c in (1 - axis, 3 - axis))
    start = first * how.spatial_scale - how.shift
    extent, grows = (last - first) * how.spatial_scale, xp.ones_like(first)
    if not how.shift:  # no region is smaller than one position
        grows = xp.where(extent > 1.0, grows, 0.0)
        extent = xp.maximum(extent, 1.0)
    part = xp.constant([fractions], rois)
    at = start + extent * part
    free = _sampling.within(xp, at, 0.0, n - 1.0) * how.spatial_scale
    counts = _sampling.within(xp, at, -1.0, float(n))
    moves = free * (1.0 - part * grows), free * part * grows
    return _Axis(_sampling.clipped(xp, at, 0.0, n - 1.0), counts, moves)


def _fractions(how, counts):
    """Where in the region each sample lies, from 0 to 1, per axis; bin by bin, row by row."""
    high, wide = how.sizes
    found = [
        ((row + (i + 0.5) / counts[0]) / high, (column + (j + 0.5) / counts[1]) / wide)
        for row, column, i, j in itertools.product(*map(range, (*how.sizes, *counts)))
    ]
    return [list(axis) for axis in zip(*found, strict=True)]


def _read(xp, x, rois, batch, how, counts):
    """Read all samples; and, per tap, how much of what it contributes is pooled."""
    axes = [
        _axis(xp, rois, axis, n, how, fractions)
        for axis, (n, fractions) in enumerate(
            zip(x.shape[2:], _fractions(how, counts), strict=True)
        )
    ]
    reading = Reading.of(xp, x, batch, [axis.at for axis in axes], "linear", _sampling.border)
    there = xp.expand_dims(axes[0].counts * axes[1].counts, axis=1)
    if how.mode == "avg":
        return reading, axes, [there * (1 / math.prod(counts))] * len(reading.taps)
    return reading, axes, _winners(xp, reading, there, math.prod(counts))


def _winners(xp, reading, there, many):
    """1 for the largest contribution to a bin, the first of equal ones."""
    given = [part * there for part in reading.parts()]
    rows, channels, places = given[0].shape
    shape = (rows, channels, places // many, many)
    all_ = xp.concat([xp.reshape(part, shape) for part in given], axis=3)
    best = xp.equal(all_, xp.max(all_, axis=3, keepdims=True))
    best = xp.where(best, xp.ones_like(all_), 0.0)
    first = xp.where(xp.cumulative_sum(best, axis=3) < 1.5, best, 0.0)
    shares = xp.split_like(first, [xp.reshape(part, shape) for part in given], 3)
    return [xp.reshape(share, given[0].shape) * there for share in shares]


def _pool(xp, parts, how):
    """Add up what the taps contribute to each bin: [R,C,high,wide]."""
    total = sum(parts[1:], parts[0])
    bins = math.prod(how.sizes)
    apart = xp.reshape(total, (*total.shape[:2], bins, total.shape[2] // bins))
    return xp.reshape(xp.sum(apart, axis=3), (*total.shape[:2], *how.sizes))


def _spread(xp, g, many):
    """Give every sample of a bin what the bin gets."""
    apart = xp.reshape(g, (*g.shape[:2], math.prod(g.shape[2:]), 1))
    wide = xp.broadcast_to(apart, (*apart.shape[:3], many))
    return xp.reshape(wide, (*g.shape[:2], math.prod(g.shape[2:]) * many))


# ----- The operator -----


def _chosen(xp, rows, *tensors):
    return tensors if rows is None else [xp.take(t, rows, axis=0) for t in tensors]


def _collected(xp, part, rows, like):
    return part if rows is None else xp.untake_like(part, rows, like, 0)


def _summed(xp, found, like):
    return sum(found[1:], found[0]) if found else xp.zeros_like(like)


def _roi_align(xp, x, rois, batch_indices, **said):
    how, found = _How(**said), []
    like = xp.broadcast_to(xp.constant(0.0, x), (rois.shape[0], x.shape[1], *how.sizes))
    for counts, rows in _groups(xp, rois, how):
        mine, batch = _chosen(xp, rows, rois, batch_indices)
        reading, _, shares = _read(xp, x, mine, batch, how, counts)
        parts = [part * share for part, share in zip(reading.parts(), shares, strict=True)]
        found.append(_collected(xp, _pool(xp, parts, how), rows, like))
    return _summed(xp, found, like)


def _offset(xp, y, x, rois, batch_indices, *, varies, **said):
    """``y`` is linear in ``x``; what the regions' derivative accounts for is taken away."""
    if not varies[1]:
        return None
    how, found = _How(**said), []
    for counts, rows in _groups(xp, rois, how):
        mine, batch = _chosen(xp, rows, rois, batch_indices)
        reading, axes, shares = _read(xp, x, mine, batch, how, counts)
        for a, axis in enumerate(axes):
            ends = [xp.cut(mine, (slice(None), slice(c, c + 1))) for c in (1 - a, 3 - a)]
            way = axis.moves[0] * ends[0] + axis.moves[1] * ends[1]
            parts = [
                part * share * xp.expand_dims(way, axis=1)
                for part, share in zip(reading.parts(a), shares, strict=True)
            ]
            found.append(_collected(xp, _pool(xp, parts, how), rows, y))
    moved = _summed(xp, found, y)
    return -moved if varies[0] else y - moved


@operator("RoiAlign", role="pooling", offset=_offset, forward=_roi_align)
def roi_align(xp, g, y, x, rois, batch_indices, *, varies, **said):
    how, to_x, to_rois = _How(**said), [], []
    for counts, rows in _groups(xp, rois, how):
        mine, batch, arriving = _chosen(xp, rows, rois, batch_indices, g)
        reading, axes, shares = _read(xp, x, mine, batch, how, counts)
        wide = _spread(xp, arriving, math.prod(counts))
        given = [wide * share for share in shares]
        if varies[0]:
            to_x.append(reading.back(given))
        if varies[1]:
            at = [reading.to_places(given, a) for a in (0, 1)]
            ends = [
                xp.sum(at[a] * axes[a].moves[end], axis=1, keepdims=True)
                for end, a in ((0, 1), (0, 0), (1, 1), (1, 0))
            ]
            to_rois.append(_collected(xp, xp.concat(ends, axis=1), rows, rois))
    return (
        _summed(xp, to_x, x) if varies[0] else None,
        _summed(xp, to_rois, rois) if varies[1] else None,
        None,
    )
