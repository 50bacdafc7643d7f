"""How the emitter writes the verbs that cost time, in the form a provider runs best.

The CPU provider keeps feature maps in a blocked layout (NCHWc) through convolutions, pools, sums
and products of equal shapes, resizing and fused activations; any other node costs two reorders of
the whole tensor. So, in that layout, a ReLU's mask is a depthwise convolution with a huge weight
and a fused Clip, a product with one number per channel is a depthwise convolution (or goes into
the weights of the next one), and the way back through a pool is Resize and Mul. All of it is exact.
"""

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.tensor.array_windows import window_counts
from onnxexplain.tensor.namespace import Window
from onnxexplain.tensor.symbol import Folded, Routed, Scaled, Symbol

if TYPE_CHECKING:
    from onnxexplain.tensor.emit import Tape

Array = np.ndarray[Any, Any]

BLOCK = 16
"""Channels must be a multiple of this for the blocked layout of the widest processors."""

HUGE = 1e30
"""Lifts every activation above 1; one below 1e-30 opens its gate in part only."""

TINY = 2.0**-100
"""Less than the difference of any two activations that are not equal: orders the equal ones."""


def fits_blocks(x: Symbol) -> bool:
    """Whether the blocked layout takes ``x``: images with enough channels."""
    return x.ndim == 4 and x.shape[1] % BLOCK == 0


def per_channel(value: Array | None, like: Symbol) -> Array | None:
    """Return ``value`` as one number per channel of ``like``, None where it is not that."""
    if value is None or like.ndim < 2 or value.ndim > like.ndim:
        return None
    full = value.reshape((1,) * (like.ndim - value.ndim) + value.shape)
    others = [n for axis, n in enumerate(full.shape) if axis != 1]
    if math.prod(others) != 1 or full.shape[1] not in (1, like.shape[1]):
        return None
    return np.broadcast_to(full.reshape(-1), (like.shape[1],)).astype(like.dtype)


# ----- One number per channel -----


def depthwise(
    tape: "Tape", x: Symbol, weight: Array, bias: Array | None = None, stride: int = 1
) -> Symbol:
    """Convolve each channel with its own kernel [C,k,k], or one kernel [k,k] for all."""
    channels, kernel = x.shape[1], weight.shape[-2:]
    w = np.broadcast_to(weight, (channels, *kernel)).reshape(channels, 1, *kernel)
    sizes = [(n - k) // stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)]
    b = None if bias is None else tape.constant(np.broadcast_to(bias, (channels,)), x.dtype)
    return tape.op(
        "Conv",
        x,
        tape.constant(w, x.dtype),
        *([] if b is None else [b]),
        shape=(*x.shape[:2], *sizes),
        group=channels,
        strides=[stride, stride],
    )


def scale_channels(tape: "Tape", x: Symbol, by: Array) -> Symbol:
    """Multiply each channel by a constant."""
    if tape.blocked and fits_blocks(x):
        return depthwise(tape, x, by.reshape(-1, 1, 1))
    factor = by[0] if np.all(by == by[0]) else by.reshape((-1, *(1,) * (x.ndim - 2)))
    return tape.op("Mul", x, tape.constant(factor, x.dtype), shape=x.shape)


def dot_channels(tape: "Tape", g: Symbol, vector: Array) -> Symbol:
    """Sum of ``g`` times a constant per channel, per sample, in float64.

    What was routed through a pool, spread by a mean or scaled has the sums of what it came from.
    """
    vector = vector.astype(np.float64)
    origin = g.origin
    if isinstance(origin, Routed):
        return dot_channels(tape, origin.g, vector)
    if isinstance(origin, Scaled):
        return dot_channels(tape, origin.of, vector * origin.by)
    if isinstance(origin, Folded) and origin.of.shape[:2] == g.shape[:2]:
        many = math.prod(g.shape[2:]) / math.prod(origin.of.shape[2:])
        return dot_channels(tape, origin.of, vector * (origin.times * many))
    totals, times = sums(tape, g, keep=2)
    column = tape.constant(vector * times)
    return tape.op("MatMul", totals, column, shape=(g.shape[0],))


def total(tape: "Tape", x: Symbol) -> Symbol:
    """Sum per sample, in float64: [N]."""
    summed, times = sums(tape, x if x.ndim else tape.reshape(x, (1,)), keep=1)
    return summed * times if times != 1 else summed


def sums(tape: "Tape", x: Symbol, keep: int) -> tuple[Symbol, float]:
    """Sum over all but the first ``keep`` axes, in float64, and what to multiply it by.

    Large maps are averaged in small squares first, which float32 does exactly enough and which
    leaves little to convert.
    """
    times = 1.0
    while x.ndim == 4 and math.prod(x.shape[2:]) > 1024:
        side = [max(k for k in range(1, 9) if n % k == 0) for n in x.shape[2:]]
        if math.prod(side) == 1:
            break
        shape = (*x.shape[:2], *(n // k for n, k in zip(x.shape[2:], side, strict=True)))
        times *= math.prod(side)
        x = tape.op("AveragePool", x, shape=shape, kernel_shape=side, strides=side)
    wide = tape.wide(x)
    return (tape.sum(wide, axis=list(range(keep, x.ndim))) if x.ndim > keep else wide), times


def mix_channels(tape: "Tape", g: Symbol, vector: Array) -> Symbol:
    """Sum over the channels of ``g`` times a constant per channel, axis 1 kept."""
    if isinstance(g.origin, Scaled):
        return mix_channels(tape, g.origin.of, vector * g.origin.by)
    w = tape.constant(vector.reshape(1, -1, *(1,) * (g.ndim - 2)), g.dtype)
    return tape.op("Conv", g, w, shape=(g.shape[0], 1, *g.shape[2:]))


# ----- Convolution -----


def conv(
    tape: "Tape", x: Symbol, w: Symbol, b: Symbol | None, window: Window, group: int
) -> Symbol:
    """Correlate ``x`` with ``w``."""
    rank = window.rank
    sizes = [
        (n + window.pads[i] + window.pads[rank + i] - window.reach[i]) // window.strides[i] + 1
        for i, n in enumerate(x.shape[2:])
    ]
    shape = (x.shape[0], w.shape[0], *sizes)
    held = [] if b is None else [b]
    return tape.op("Conv", x, w, *held, shape=shape, group=group, **_geometry(window))


def _geometry(window: Window) -> dict[str, Any]:
    return {
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "pads": list(window.pads),
    }


def conv_transpose_like(
    tape: "Tape", g: Symbol, w: Symbol, x: Symbol, window: Window, group: int
) -> Symbol:
    """Undo a convolution; what waits as a factor of ``g``'s channels goes into the weights."""
    if isinstance(g.origin, Scaled) and w.value is not None:
        by = g.origin.by.reshape(-1, *(1,) * (w.ndim - 1))
        w, g = tape.constant(w.value * by), g.origin.of
    rank = window.rank
    flipped = tuple(r - 1 - p for r, p in zip(window.reach * 2, window.pads, strict=True))
    steps = set(window.strides)
    if steps == {1} and min(flipped) >= 0 and w.value is not None:
        back = Window(window.kernel, window.strides, window.dilations, flipped)
        kernel = _flip(w.value, group)
        if tape.blocked and group == 1 and _few(g, x, window):
            return _conv_by_phases(tape, g, kernel, x, back)
        return conv(tape, g, tape.constant(kernel), None, back, group)
    sizes = [
        (n - 1) * s + r for n, s, r in zip(g.shape[2:], window.strides, window.reach, strict=True)
    ]
    extra = [
        n + window.pads[i] + window.pads[rank + i] - sizes[i] for i, n in enumerate(x.shape[2:])
    ]
    full = tape.op(
        "ConvTranspose",
        g,
        w,
        shape=(*x.shape[:2], *sizes),
        group=group,
        strides=list(window.strides),
        dilations=list(window.dilations),
    )
    # Rows that a stride skipped come back as zeros; the padding is cut off: one Pad does both.
    begins = [-p for p in window.pads[:rank]]
    ends = [e - p for e, p in zip(extra, window.pads[rank:], strict=True)]
    return tape.pad(full, begins + ends, range(2, 2 + rank))


def _few(g: Symbol, x: Symbol, window: Window) -> bool:
    """Whether ``x`` is an image of so few channels that a block would stay three quarters empty."""
    even = x.ndim == 4 and all(n % 2 == 0 for n in x.shape[2:])
    return even and fits_blocks(g) and 4 * x.shape[1] <= BLOCK and set(window.dilations) == {1}


def _conv_by_phases(tape: "Tape", g: Symbol, kernel: Array, x: Symbol, window: Window) -> Symbol:
    """Convolve into the four phases of the result as channels, then interleave them.

    The same sums, but the provider computes a whole block of channels where ``x`` fills a fifth of
    one: 2.25 times less work for a 3x3 kernel.
    """
    few, (high, wide) = x.shape[1], kernel.shape[2:]
    phases = np.zeros((4 * few, kernel.shape[1], high + 1, wide + 1), kernel.dtype)
    for index, (row, column) in enumerate(itertools.product(range(2), repeat=2)):
        part = slice(index * few, (index + 1) * few)
        phases[part, :, row : row + high, column : column + wide] = kernel
    halves = (x.shape[0], 4 * few, *(n // 2 for n in x.shape[2:]))
    made = tape.op(
        "Conv", g, tape.constant(phases), shape=halves, strides=[2, 2], pads=list(window.pads)
    )
    return tape.op("DepthToSpace", made, shape=x.shape, blocksize=2)


def _flip(w: Array, group: int) -> Array:
    """The kernel of the way back: turned round, its channels exchanged within each group."""
    turned = np.flip(w, tuple(range(2, w.ndim)))
    split = turned.reshape(group, w.shape[0] // group, *w.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(split.reshape(group * w.shape[1], -1, *w.shape[2:]))


# ----- Gates and pools -----


def open_gate(tape: "Tape", y: Symbol) -> Symbol:
    """1 where ``y`` is positive, 0 elsewhere, without leaving the blocks."""
    lifted = depthwise(tape, y, np.full((1, 1), HUGE))
    zero, one = tape.constant(0, y.dtype), tape.constant(1, y.dtype)
    return tape.op("Clip", lifted, zero, one, shape=y.shape)


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
        **_geometry(r.window),
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
