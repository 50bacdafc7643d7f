"""Receptive fields behind what cuts or pads a map, or makes it larger.

There units lie between the positions they see.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from onnxexplain.graph.field import Known, ReceptiveField
from onnxexplain.graph.node import Node

_TIE = 1e-6
"""What is so near to a position, or to the middle of two, lies there."""

# ----- Cut and padded -----


def _moved(node: Node, known: Known, begins: Mapping[int, int]) -> ReceptiveField:
    """Each axis begins so many positions earlier."""
    axes = known.axes(node.inputs[0])
    return tuple(
        axis.between(1, -begins.get(place, 0), -begins.get(place, 0))
        for place, axis in zip(axes, known.of(node)[0], strict=True)
    )


def pad(node: Node, known: Known) -> ReceptiveField | None:
    """Follow a Pad."""
    rank = len(known.shapes[node.inputs[0]])
    pads, axes = known.values(node, 1), known.values(node, 3)
    places = [int(a) % rank for a in axes] or list(range(rank))
    if pads:
        return _moved(node, known, dict(zip(places, map(int, pads), strict=False)))
    return _alike(node, known)


def cut(node: Node, known: Known) -> ReceptiveField | None:
    """Follow a Slice."""
    rank, shape = len(known.shapes[node.inputs[0]]), known.shapes[node.inputs[0]]
    starts = [int(v) for v in known.values(node, 1)]
    axes = [int(a) % rank for a in known.values(node, 3)] or list(range(len(starts)))
    steps = [int(v) for v in known.values(node, 4)] or [1] * len(starts)
    if not starts:
        return _alike(node, known)
    cuts = {
        a: range(shape[a])[slice(start, None, step)]
        for a, start, step in zip(axes, starts, steps, strict=True)
    }
    pairs = zip(known.axes(node.inputs[0]), known.of(node)[0], strict=True)
    return tuple(
        axis.between(cuts[a].step, cuts[a].start, cuts[a].start) if a in cuts else axis
        for a, axis in pairs
    )


def _alike(node: Node, known: Known) -> ReceptiveField | None:
    """As much is added, or taken away, at the beginning as at the end."""
    before, after = known.sizes(node.inputs[0]), known.sizes(node.outputs[0])
    rows = zip(known.of(node)[0], before, after, strict=True)
    return tuple(axis.between(1, (n - m) / 2, (n - m) / 2) for axis, n, m in rows)


# ----- Made larger: units lie between positions -----


def _seen(step: float, reads: Iterable[tuple[int, float, float]]) -> tuple[float, float, float]:
    """Return the field of unit 0, given what some units see: (unit, first, last)."""
    spans = [(first - step * i, last - step * i) for i, first, last in reads]
    return step, min(first for first, _ in spans), max(last for _, last in spans)


def transposed(node: Node, known: Known) -> ReceptiveField | None:
    """Output ``o`` sees the inputs ``i`` with ``o + pad = i stride + tap dilation``."""
    rows, found = known.geometry(node), []
    for axis, (kernel, stride, dilation, pad) in zip(known.of(node)[0], rows or (), strict=False):
        reads = []
        for unit in range(stride):
            at = [unit + pad - tap * dilation for tap in range(kernel)]
            inputs = [place // stride for place in at if place % stride == 0]
            if inputs:
                reads.append((unit, min(inputs), max(inputs)))
        found.append(axis.between(*_seen(1 / stride, reads)))
    return tuple(found) or None


def to_space(node: Node, known: Known) -> ReceptiveField | None:
    """Follow a DepthToSpace."""
    side = node.attributes["blocksize"]
    seen = _seen(1 / side, [(unit, 0, 0) for unit in range(side)])
    return tuple(axis.between(*seen) for axis in known.of(node)[0])


def resize(node: Node, known: Known) -> ReceptiveField | None:
    """Follow a Resize."""
    before, after = known.sizes(node.inputs[0]), known.sizes(node.outputs[0])
    if len(before) != len(after):
        return None
    axes, rank = known.axes(node.inputs[0]), len(known.shapes[node.inputs[0]])
    named = node.attributes.get("axes") or list(range(rank))
    places = {int(a) % rank: i for i, a in enumerate(named)}
    scales, roi = known.values(node, 2), known.values(node, 1)
    found = []
    for axis, a, n, m in zip(known.of(node)[0], axes, before, after, strict=True):
        i = places.get(a)
        scale = float(scales[i]) if scales and i is not None else m / n
        crop = (float(roi[i]), float(roi[i + len(named)])) if roi and i is not None else (0, 1)
        step, start = _places(node.attributes, n, m, scale, crop)
        reads = [
            (unit, *_reach(node.attributes, n, start + step * unit, scale)) for unit in range(m)
        ]
        found.append(axis.between(*_seen(step, reads)) if (n, scale) != (m, 1.0) else axis)
    return tuple(found)


def _places(
    a: Mapping[str, Any], n: int, m: int, scale: float, crop: tuple[float, float]
) -> tuple[float, float]:
    """Return how far new positions are apart among the old ones, and where the first one lies."""
    mode = a.get("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return 1 / scale, 0.0
    if mode == "align_corners":
        return (n - 1) / max(m - 1, 1), 0.0
    if mode == "tf_crop_and_resize":
        wide = (crop[1] - crop[0]) * (n - 1)
        return wide / max(m - 1, 1), crop[0] * (n - 1) + (wide / 2 if m == 1 else 0.0)
    shift = n / 2 * (1 - m / (scale * n)) if mode == "half_pixel_symmetric" else 0.0
    return 1 / scale, shift + 0.5 / scale - 0.5


def _reach(a: Mapping[str, Any], n: int, at: float, scale: float) -> tuple[float, float]:
    """Return the first and the last of ``n`` old positions that are read at a place."""
    mode = a.get("mode", "nearest")
    if mode == "nearest":
        place = _nearest(at, a.get("nearest_mode", "round_prefer_floor"))
        first, last = place, place
    elif mode == "linear":
        first, last = math.floor(at + _TIE), math.ceil(at - _TIE)
    else:
        first, last = math.floor(at) - 1, math.floor(at) + 2
    if a.get("antialias"):
        wide = (2 if mode == "cubic" else 1) * max(1 / scale, 1.0)
        first, last = math.ceil(at - wide), math.floor(at + wide)
    return min(max(first, 0), n - 1), min(max(last, 0), n - 1)


def _nearest(at: float, how: str) -> int:
    if how == "floor":
        return math.floor(at + _TIE)
    if how == "ceil":
        return math.ceil(at - _TIE)
    if how == "round_prefer_ceil":
        return math.floor(at + 0.5 + _TIE)
    return math.ceil(at - 0.5 - _TIE)
