"""Boxes around what a map is strong at."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from onnxexplain.errors import MethodError

if TYPE_CHECKING:
    from onnxexplain.explanation import Explanation

Array = np.ndarray[Any, Any]

Box = TypedDict(
    "Box",
    {
        "sample": int,
        "class": int | None,
        "label": str | None,
        "probability": float | None,
        "x0": int,
        "y0": int,
        "x1": int,
        "y1": int,
        "peak": float,
        "area": int,
    },
)
"""One box: columns ``x0`` to ``x1`` and rows ``y0`` to ``y1``, the last of each outside.

``peak`` is the map's largest value in it, relative to the map's maximum; ``area`` is how many
pixels lie above the threshold. Class, label and probability are those of the target; None for an
element or a combination of the output, and for a map of all classes together.
"""


def find(e: "Explanation", threshold: float = 0.5, *, min_size: int = 1) -> list[Box]:
    """Return the boxes of every map of an explanation; see :meth:`Explanation.boxes`."""
    threshold, min_size = _checked(threshold, min_size)
    maps = e.heatmap()
    axes = maps.ndim - e.score.ndim
    if axes != 2:
        raise MethodError(f"boxes are drawn on maps [H,W]; this map has {axes} axes per sample")
    odds, together = e.probabilities, bool(e.options.get("combined"))
    found: list[Box] = []
    for index in sorted(np.ndindex(e.score.shape), key=lambda i: i[::-1]):
        if together and any(index[:-1]):
            continue  # every target's map is the same, that of all classes
        sample, target = index[-1], None if together else e.target
        c = None if target is None else int(target[index])
        named = e.labels is not None and c is not None and c < len(e.labels)
        for place, peak, area in around(maps[index], threshold):
            x0, y0, x1, y1 = place
            if min(x1 - x0, y1 - y0) < min_size:
                continue
            found.append(
                {
                    "sample": sample,
                    "class": c,
                    "label": e.labels[c] if named and e.labels and c is not None else None,
                    "probability": None if c is None else float(odds[sample, c]),
                    "x0": x0,
                    "y0": y0,
                    "x1": x1,
                    "y1": y1,
                    "peak": peak,
                    "area": area,
                }
            )
    return found


def _checked(threshold: Any, min_size: Any) -> tuple[float, int]:
    number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise MethodError(
            f"the boxes' threshold is {threshold!r}; it is a part of the maximum, between 0 and 1"
        )
    if not isinstance(min_size, (int, np.integer)) or min_size < 0:
        raise MethodError(f"min_size is {min_size!r}; it must be a whole number of pixels")
    return float(threshold), int(min_size)


def around(
    values: Array, threshold: float
) -> Iterator[tuple[tuple[int, int, int, int], float, int]]:
    """Yield box (x0, y0, x1, y1), peak and area of every connected part of a map [H,W].

    A part is what reaches ``threshold`` times the map's maximum and hangs together by the edges of
    its pixels; the strongest comes first. A map that is nowhere positive has none.
    """
    top = float(values.max(initial=0))
    if top <= 0:
        return
    heat = values / top
    above = (heat >= threshold) & (heat > 0)
    rows, columns = np.nonzero(above)
    parts, of = np.unique(components(above)[above], return_inverse=True)
    count = len(parts)
    low, high = np.full((2, count), max(heat.shape)), np.zeros((2, count), int)
    peaks, areas = np.zeros(count), np.bincount(of)
    np.maximum.at(peaks, of, heat[above])
    for axis, place in enumerate((columns, rows)):
        np.minimum.at(low[axis], of, place)
        np.maximum.at(high[axis], of, place + 1)
    for k in np.lexsort((-areas, -peaks)):
        (x0, y0), (x1, y1) = low[:, k].tolist(), high[:, k].tolist()
        yield (x0, y0, x1, y1), float(peaks[k]), int(areas[k])


def components(mask: Array) -> Array:
    """Return the connected part of every pixel of a binary image, four neighbours counting.

    A part is named by the index of its first pixel, so that numbers differ between parts and mean
    nothing outside ``mask``. Parts that touch are joined round by round, the later to the earlier;
    every round halves their number at least where any touch.
    """
    part = np.arange(mask.size)
    index = part.reshape(mask.shape)
    beside, below = mask[:, :-1] & mask[:, 1:], mask[:-1] & mask[1:]
    first = np.concatenate([index[:, :-1][beside], index[:-1][below]])
    second = np.concatenate([index[:, 1:][beside], index[1:][below]])
    while True:
        pair = part[first], part[second]
        touch = pair[0] != pair[1]
        if not touch.any():
            return part.reshape(mask.shape)
        first, second = first[touch], second[touch]
        low, high = np.minimum(*pair)[touch], np.maximum(*pair)[touch]
        part[high] = low  # of several, any: the others are still apart in the next round
        while not np.array_equal(part, part[part]):
            part = part[part]
