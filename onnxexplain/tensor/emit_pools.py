"""The way back through pools, as ONNX nodes."""

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from onnxexplain.tensor.array_windows import window_counts
from onnxexplain.tensor.emit_channels import depthwise, fits_blocks
from onnxexplain.tensor.emit_convolution import conv, conv_transpose_like, geometry
from onnxexplain.tensor.namespace import Window
from onnxexplain.tensor.symbol import Folded, Routed, Symbol

if TYPE_CHECKING:
    from onnxexplain.tensor.emit import Tape

TINY = 2.0**-100
"""Less than the difference of any two activations that are not equal: orders the equal ones."""


def route(tape: "Tape", r: Routed) -> Symbol:
    """Send ``g`` to the maxima of the windows of ``x``."""
    square = len(set(r.window.kernel)) == 1 and r.window.rank == 2
    whole = all(n % k == 0 for n, k in zip(r.x.shape[2:], r.window.kernel, strict=True))
    if tape.blocked and fits_blocks(r.x) and r.window.tiles and square and whole:
        return _route_blocked(tape, r)
    return _route_shared(tape, r) if tape.ties == "share" else _route_indexed(tape, r)


def _route_indexed(tape: "Tape", r: Routed) -> Symbol:
    """The runtime's own indices, which name the first maximum, and a scatter that adds."""
    indices = tape.ops(
        "MaxPool",
        r.x,
        shapes=[(r.y.shape, r.x.dtype), (r.y.shape, np.int64)],
        kernel_shape=list(r.window.kernel),
        ceil_mode=int(_overhangs(r)),
        **geometry(r.window),
    )[1]
    many = math.prod(r.y.shape)
    size = math.prod(r.x.shape)
    zeros = tape.op("Expand", tape.constant(0, r.g.dtype), tape.ints([size]), shape=(size,))
    flat = tape.op(
        "ScatterElements",
        zeros,
        tape.reshape(indices, (many,)),
        tape.reshape(r.g, (many,)),
        shape=(size,),
        reduction="add",
    )
    return tape.reshape(flat, r.x.shape)


def _overhangs(r: Routed) -> bool:
    rank = r.window.rank
    floors = [
        (n + r.window.pads[i] + r.window.pads[rank + i] - r.window.reach[i]) // r.window.strides[i]
        + 1
        for i, n in enumerate(r.x.shape[2:])
    ]
    return tuple(floors) != r.y.shape[2:]


def _route_shared(tape: "Tape", r: Routed) -> Symbol:
    """All maxima of a window alike: one channel per kernel position holds who won there."""
    taps, channels, rank = math.prod(r.window.kernel), r.x.shape[1], r.window.rank
    sizes = r.y.shape[2:]
    covered = [
        (n - 1) * s + reach
        for n, s, reach in zip(sizes, r.window.strides, r.window.reach, strict=True)
    ]
    begins = r.window.pads[:rank]
    ends = [max(c - n - b, 0) for c, n, b in zip(covered, r.x.shape[2:], begins, strict=True)]
    fill = tape.constant(-3e38, r.x.dtype)  # no maximum; infinite it would meet the kernel's zeros
    full = tape.ints([0, 0, *begins, 0, 0, *ends])
    shape = (
        *r.x.shape[:2],
        *(n + b + e for n, b, e in zip(r.x.shape[2:], begins, ends, strict=True)),
    )
    padded = tape.op("Pad", r.x, full, fill, shape=shape)
    one_hot = np.eye(taps).reshape(taps, 1, *r.window.kernel)
    kernel = tape.constant(np.tile(one_hot, (channels, *(1,) * (rank + 1))), r.x.dtype)
    bare = Window(r.window.kernel, r.window.strides, r.window.dilations, (0,) * (2 * rank))
    spread = (r.x.shape[0], channels, taps, *sizes)
    seen = tape.reshape(conv(tape, padded, kernel, None, bare, channels), spread)
    best = tape.expand_dims(r.y, axis=2)
    won = tape.op("Equal", seen, best, shape=spread, dtype=bool)
    ones = tape.where(won, tape.constant(1, r.g.dtype), tape.constant(0, r.g.dtype))
    each = tape.expand_dims(r.g / tape.sum(ones, axis=2), axis=2)
    sent = tape.reshape(ones * each, (r.x.shape[0], channels * taps, *sizes))
    return conv_transpose_like(tape, sent, kernel, r.x, _cut(r, ends), channels)


def _cut(r: Routed, ends: list[int]) -> Window:
    begins = r.window.pads[: r.window.rank]
    return Window(r.window.kernel, r.window.strides, r.window.dilations, (*begins, *ends))


def _route_blocked(tape: "Tape", r: Routed) -> Symbol:
    """Windows side by side, in blocks: repeat ``g`` over its window, keep the winner."""
    side = r.window.kernel[0]
    if tape.ties == "share":
        winners, count = _shared_winners(tape, r, side)
        g = tape.op("Mul", r.g, count, shape=r.g.shape)
    else:
        winners, g = _first_winner(tape, r, side), r.g
    return tape.op("Mul", repeat(tape, g, side), winners, shape=r.x.shape)


def repeat(tape: "Tape", x: Symbol, side: int) -> Symbol:
    """Each position as a square of ``side`` by ``side``."""
    scales = tape.constant(np.array([1, 1, side, side], np.float32))
    return tape.op(
        "Resize",
        x,
        None,
        scales,
        shape=(*x.shape[:2], *(n * side for n in x.shape[2:])),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _behind(tape: "Tape", r: Routed, side: int) -> Symbol:
    """How far each element lies below its window's maximum: 0 at the maxima, negative elsewhere."""
    best = repeat(tape, depthwise(tape, r.y, np.full((1, 1), -1.0)), side)
    return tape.op("Add", r.x, best, shape=r.x.shape)


def _first_winner(tape: "Tape", r: Routed, side: int) -> Symbol:
    """1 at the first maximum of each window in row-major order.

    Each maximum gets the rank of its place in the window (k*k for the first place, 1 for the last)
    and everything else 0; the highest rank in the window is then the first maximum.
    """
    rank = np.arange(side * side, 0, -1).reshape(side, side)
    tiles = [n // side for n in r.x.shape[2:]]
    pattern = tape.constant(np.tile(rank * TINY, tiles)[None, None], r.x.dtype)
    if tape.zero is not None:  # made at run time: folded, it would be stored as large as x
        pattern = tape.op("Add", pattern, tape.zero, shape=(r.x.shape[0], 1, *r.x.shape[2:]))
    ones = tape.constant(np.ones((r.x.shape[1], 1, 1, 1)), r.x.dtype)
    ranks = tape.op("Conv", pattern, ones, shape=r.x.shape)
    summed = tape.op("Add", ranks, _behind(tape, r, side), shape=r.x.shape)
    held = tape.op("Relu", summed, shape=r.x.shape)
    window = [side, side]
    highest = tape.op("MaxPool", held, shape=r.y.shape, kernel_shape=window, strides=window)
    missing = repeat(tape, depthwise(tape, highest, np.full((1, 1), -1 / TINY), np.ones(1)), side)
    own = depthwise(tape, held, np.full((1, 1), 1 / TINY))
    return tape.op("Relu", tape.op("Add", own, missing, shape=r.x.shape), shape=r.x.shape)


def _shared_winners(tape: "Tape", r: Routed, side: int) -> tuple[Symbol, Symbol]:
    """1 at every maximum of each window, and one over their number."""
    lifted = depthwise(tape, _behind(tape, r, side), np.full((1, 1), 1 / TINY), np.ones(1))
    winners = tape.op("Relu", lifted, shape=r.x.shape)
    count = depthwise(tape, winners, np.ones((side, side)), stride=side)
    inverse = tape.op("Reciprocal", count, shape=r.y.shape)
    return winners, depthwise(tape, inverse, np.ones((1, 1)))


def average_pool_like(
    tape: "Tape", g: Symbol, x: Symbol, window: Window, count_include_pad: bool
) -> Symbol:
    """Give every element of each window an equal part."""
    sizes, rank = g.shape[2:], window.rank
    if window.kernel == x.shape[2:] and set(window.dilations) == {1} and not any(window.pads):
        return tape.late(x.shape, g.dtype, Folded(g * (1 / math.prod(window.kernel)), 1.0))
    counts = window_counts(x.shape[2:], sizes, window, count_include_pad)
    divisor = np.array([math.prod(c) for c in itertools.product(*counts)]).reshape(sizes)
    if np.all(divisor == divisor.flat[0]):
        g = g * (1 / divisor.flat[0])
    else:
        g = g * tape.constant((1 / divisor)[None, None], g.dtype)
    covered = [(n - 1) * s + r for n, s, r in zip(sizes, window.strides, window.reach, strict=True)]
    over = [
        max(c - n - window.pads[i] - window.pads[rank + i], 0)
        for i, (c, n) in enumerate(zip(covered, x.shape[2:], strict=True))
    ]
    ends = [p + o for p, o in zip(window.pads[rank:], over, strict=True)]
    whole = Window(window.kernel, window.strides, window.dilations, (*window.pads[:rank], *ends))
    ones = tape.constant(np.ones((x.shape[1], 1, *window.kernel)), g.dtype)
    return conv_transpose_like(tape, g, ones, x, whole, x.shape[1])
