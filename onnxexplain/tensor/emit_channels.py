"""One number per channel, written in the form a provider runs best.

The CPU provider keeps feature maps in a blocked layout (NCHWc) through convolutions, pools, sums
and products of equal shapes, resizing and fused activations; any other node costs two reorders of
the whole tensor. So, in that layout, a ReLU's mask is a depthwise convolution with a huge weight
and a fused Clip, a product with one number per channel is a depthwise convolution (or goes into
the weights of the next one), and the way back through a pool is Resize and Mul. All of it is exact.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.tensor.symbol import Folded, Routed, Scaled, Symbol

if TYPE_CHECKING:
    from onnxexplain.tensor.emit import Tape

Array = np.ndarray[Any, Any]

BLOCK = 16
"""Channels must be a multiple of this for the blocked layout of the widest processors."""

HUGE = 1e30
"""Lifts every activation above 1; one below 1e-30 opens its gate in part only."""


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


def open_gate(tape: "Tape", y: Symbol) -> Symbol:
    """1 where ``y`` is positive, 0 elsewhere, without leaving the blocks."""
    lifted = depthwise(tape, y, np.full((1, 1), HUGE))
    zero, one = tape.constant(0, y.dtype), tape.constant(1, y.dtype)
    return tape.op("Clip", lifted, zero, one, shape=y.shape)
