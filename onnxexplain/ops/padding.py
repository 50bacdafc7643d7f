"""Padding: with a value, or with elements of the tensor itself, which then are read again."""

from onnxexplain.ops._operator import operator


def _axes(xp, x, axes):
    return list(range(x.ndim)) if axes is None else [a % x.ndim for a in xp.integers(axes)]


def _offset(xp, y, x, pads, value=None, axes=None, *, varies, mode="constant"):
    if mode != "constant" or value is None or varies[0] == varies[2]:
        return None
    inner = xp.pad(x, xp.integers(pads), _axes(xp, x, axes))
    return y - inner if varies[0] else inner


@operator("Pad", role="routing", offset=_offset, fixed=(1, 3))
def pad(xp, g, y, x, pads, value=None, axes=None, *, varies, mode="constant"):
    pads, where = xp.integers(pads), _axes(xp, x, axes)
    if mode == "constant":
        kept = xp.unpad_like(g, x, pads, where)
        asked = value is not None and varies[2]
        to_value = xp.sum_like(g - xp.pad(kept, pads, where), value) if asked else None
        return (kept, None, to_value, None)
    for i, axis in enumerate(where):
        begin, end = pads[i], pads[len(where) + i]
        if begin or end:
            places = _places(x.shape[axis], begin, end, mode)
            g = _put_back(xp, g, axis, x.shape[axis], places)
    return (g, None, None, None)


def _places(many, begin, end, mode):
    """Which of ``many`` elements each position of a padded axis holds; negative pads crop first."""
    first, last = -min(begin, 0), many + min(end, 0)
    n = last - first
    found = []
    for i in range(-max(begin, 0), n + max(end, 0)):
        if mode == "edge":
            place = min(max(i, 0), n - 1)
        elif mode == "wrap":
            place = i % n
        elif mode == "reflect":
            turn = max(2 * (n - 1), 1)
            place = min(i % turn, turn - i % turn) if n > 1 else 0
        else:
            raise NotImplementedError(f"mode `{mode}`")
        found.append(first + place)
    return found


def _put_back(xp, g, axis, many, places):
    """Add every position of ``g`` to the element it holds, one run of neighbours at a time."""
    total = None
    for start, stop, step in _runs(places):
        piece = xp.cut(g, (*(slice(None),) * axis, slice(start, stop)))
        first, length = places[start], 1
        if step:
            first, length = min(first, places[stop - 1]), stop - start
        elif stop - start > 1:
            piece = xp.sum(piece, axis=axis, keepdims=True)
        if step < 0:
            piece = xp.cut(piece, (*(slice(None),) * axis, slice(None, None, -1)))
        spread = xp.pad(piece, [first, many - first - length], [axis])
        total = spread if total is None else total + spread
    return total


def _runs(places):
    """Yield (start, stop, step) of the runs that rise by one, fall by one or stay."""
    start = 0
    while start < len(places):
        stop, step = start + 1, 0
        if stop < len(places) and abs(places[stop] - places[start]) <= 1:
            step = places[stop] - places[start]
            while stop < len(places) and places[stop] - places[stop - 1] == step:
                stop += 1
        yield start, stop, step
        start = stop
