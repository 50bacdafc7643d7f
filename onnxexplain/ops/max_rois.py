"""MaxRoiPool: regions of interest rounded to positions, the largest of every bin."""

import math

from onnxexplain.ops._operator import operator
from onnxexplain.tensor.resizing import float32


def _spans(first, last, many, bins, scale):
    """Which of ``many`` positions lie in each bin of a region, in the runtime's float32."""
    first, last = (_rounded(float32(v * scale)) for v in (first, last))
    step = float32(max(last - first + 1, 1) / bins)
    for i in range(bins):
        begin = first + math.floor(float32(i * step))
        end = first + math.ceil(float32((i + 1) * step))
        yield range(min(max(begin, 0), many), min(max(end, 0), many))


def _rounded(v):
    """The nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(v) + 0.5), v))


def _bins(xp, x, rois, sizes, scale):
    """Where the elements of every bin lie in ``x`` [R,C,bins,K], and 0 for a bin of none."""
    values, (_, channels, high, wide) = xp.floats(rois), x.shape
    starts, bins = [], []
    for row in range(rois.shape[0]):
        sample, x1, y1, x2, y2 = values[5 * row : 5 * row + 5]
        starts.append([(int(sample) * channels + c) * high * wide for c in range(channels)])
        columns = list(_spans(x1, x2, wide, sizes[1], scale))
        for rows in _spans(y1, y2, high, sizes[0], scale):
            bins += [[r * wide + c for r in rows for c in span] for span in columns]
    most = max(map(len, bins), default=0) or 1
    many = math.prod(sizes)
    filled = [places + (places[:1] or [0]) * (most - len(places)) for places in bins]
    inner = xp.reshape(xp.indices(filled, x), (rois.shape[0], 1, many, most))
    outer = xp.reshape(xp.indices(starts, x), (rois.shape[0], channels, 1, 1))
    there = xp.constant([1.0 if places else 0.0 for places in bins], x)
    return outer + inner, xp.reshape(there, (rois.shape[0], 1, many, 1))


def _max_roi_pool(xp, x, rois, *, pooled_shape, spatial_scale=1.0):
    places, there = _bins(xp, x, rois, pooled_shape, spatial_scale)
    best = xp.max(xp.pick(x, places), axis=3, keepdims=True) * there
    return xp.reshape(best, (*places.shape[:2], *pooled_shape))


@operator("MaxRoiPool", role="pooling", forward=_max_roi_pool)
def max_roi_pool(xp, g, y, x, rois, *, pooled_shape, spatial_scale=1.0):
    """The regions are rounded: they have no derivative."""
    places, there = _bins(xp, x, rois, pooled_shape, spatial_scale)
    seen = xp.pick(x, places)
    best = xp.where(xp.equal(seen, xp.max(seen, axis=3, keepdims=True)), xp.ones_like(seen), 0.0)
    first = xp.where(xp.cumulative_sum(best, axis=3) < 1.5, best, 0.0)
    arriving = xp.reshape(g, (*places.shape[:3], 1)) * there
    return (xp.put_like(arriving * first, places, x), None)
