"""Fourier transforms: linear maps of real and imaginary parts, which lie on the last axis."""

import math
from functools import lru_cache

from onnxexplain.ops._along import along, turned
from onnxexplain.ops._operator import none, operator

# ----- The matrices -----


@lru_cache(maxsize=32)
def _waves(rows: int, columns: int, period: int, times: float = 1.0):
    """Cosines and sines of every row's multiple of every column's angle."""
    angles = [2 * math.pi * k / period for k in range(period)]
    cosines, sines = ([times * f(angle) for angle in angles] for f in (math.cos, math.sin))
    places = [[i * j % period for j in range(columns)] for i in range(rows)]
    return tuple([[table[place] for place in row] for row in places] for table in (cosines, sines))


def _negative(matrix):
    return [[-v for v in row] for row in matrix]


def _direct(many: int, period: int, onesided: int, parts: int):
    """From ``many`` values: matrices by part that comes out, then by part that goes in."""
    out = period // 2 + 1 if onesided else period
    cosines, sines = _waves(out, min(many, period), period)
    into_real, into_imaginary = (cosines, sines), (_negative(sines), cosines)
    return (into_real[:parts], into_imaginary[:parts])


def _inverse(many: int, period: int, onesided: int, parts: int):
    cosines, sines = _waves(period, min(many, period), period, 1 / period)
    if not onesided:
        return ((cosines, _negative(sines))[:parts], (sines, cosines)[:parts])
    # Half a spectrum of a real signal: what is left out mirrors what is there.
    cosines, sines = _waves(period, min(many, period // 2 + 1), period, 1 / period)
    times = [1.0 if 2 * k % period == 0 else 2.0 for k in range(len(cosines[0]))]
    real = [[v * t for v, t in zip(row, times, strict=True)] for row in cosines]
    imaginary = [[-v * t for v, t in zip(row, times, strict=True)] for row in sines]
    return ((real, imaginary)[:parts],)


def _matrices(x_many, period, parts, inverse, onesided):
    if period is None:
        period = 2 * (x_many - 1) if inverse and onesided else x_many
    return (_inverse if inverse else _direct)(x_many, period, onesided, parts)


def _apply(xp, x, axis, matrices):
    """Mix the parts of ``x`` along an axis, each part that comes out of those that go in."""
    read = len(matrices[0][0][0])  # the rest of a longer signal is not looked at
    every = (slice(None),) * (x.ndim - 1)
    parts = [xp.cut(x, (*every, slice(part, part + 1))) for part in range(x.shape[-1])]
    parts = [xp.cut(part, (*every[:axis], slice(read))) for part in parts]
    out = []
    for row in matrices:
        mixed = [along(xp, part, axis, weights) for part, weights in zip(parts, row, strict=True)]
        out.append(sum(mixed[1:], mixed[0]))
    return xp.concat(out, axis=x.ndim - 1) if len(out) > 1 else out[0]


def _unapply(xp, g, axis, many, matrices):
    """The way back: the transposed matrices; what was not looked at gets nothing."""
    back = tuple(tuple(turned(row[part]) for row in matrices) for part in range(len(matrices[0])))
    given = _apply(xp, g, axis, back)
    return xp.pad(given, [0, many - given.shape[axis]], [axis])


# ----- The whole signal -----


def _of(xp, x, dft_length, axis, inverse, onesided):
    axis = -2 if axis is None else axis if isinstance(axis, int) else xp.integers(axis)[0]
    axis %= x.ndim
    period = None if dft_length is None else xp.integers(dft_length)[0]
    return axis, _matrices(x.shape[axis], period, x.shape[-1], inverse, onesided)


def _dft(xp, x, dft_length=None, axis=None, *, inverse=0, onesided=0):
    return _apply(xp, x, *_of(xp, x, dft_length, axis, inverse, onesided))


@operator("DFT", role="linear", forward=_dft, fixed=(1, 2))
def dft(xp, g, y, x, dft_length=None, axis=None, *, inverse=0, onesided=0):
    # An axis is an input since opset 20, and a number (the attribute) before.
    axis, matrices = _of(xp, x, dft_length, axis, inverse, onesided)
    return (_unapply(xp, g, axis, x.shape[axis], matrices), None, None)


# ----- Frame by frame -----


def _frames(xp, x, frame_step, window, frame_length):
    """Where every frame [F,L] reads the signal."""
    length = window.shape[0] if window is not None else None
    if length is None:
        length = x.shape[1] if frame_length is None else xp.integers(frame_length)[0]
    step = xp.integers(frame_step)[0]
    many = (x.shape[1] - length) // step + 1
    return [[first * step + i for i in range(length)] for first in range(many)]


def _stft(xp, x, frame_step, window=None, frame_length=None, *, onesided=1):
    places = _frames(xp, x, frame_step, window, frame_length)
    seen = xp.take(x, xp.indices(places, x), axis=1)
    if window is not None:
        seen = seen * xp.expand_dims(window, axis=1)
    matrices = _matrices(len(places[0]), None, x.shape[2], 0, onesided)
    return _apply(xp, seen, 2, matrices)


@operator("STFT", role="linear", forward=_stft, fixed=(1, 2, 3))
def stft(xp, g, y, x, frame_step, window=None, frame_length=None, *, onesided=1):
    places = _frames(xp, x, frame_step, window, frame_length)
    length = len(places[0])
    given = _unapply(xp, g, 2, length, _matrices(length, None, x.shape[2], 0, onesided))
    if window is not None:
        given = given * xp.expand_dims(window, axis=1)
    return (xp.untake_like(given, xp.indices(places, x), x, 1), None, None, None)


# ----- What weighs the frequencies: a table -----


@operator("MelWeightMatrix", role="stop", offset=none)
def mel_weight_matrix(xp, g, y, *inputs):
    return (None,) * len(inputs)
