"""Sampling a tensor at places that a grid names, and the grids themselves."""

import itertools
import math

from onnxexplain.ops import _sampling
from onnxexplain.ops._operator import operator
from onnxexplain.ops._sampling import Reading

# ----- A grid of places -----

_MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""The names that the modes had before opset 20."""


def _inside(padding_mode, align_corners):
    if padding_mode == "reflection":
        return _sampling.mirrored if align_corners else _sampling.mirrored_outside
    found = {"zeros": _sampling.zeros, "border": _sampling.border}.get(padding_mode)
    if found is None:
        raise NotImplementedError(f"padding_mode `{padding_mode}`")
    return found


def _spans(sizes, align_corners):
    """How many positions a unit of the grid spans, along each axis."""
    return [(n - 1) / 2 if align_corners else n / 2 for n in sizes]


def _parts(xp, grid):
    """A grid's last axis taken apart, in the order of the axes: [N,P] each."""
    every = (slice(None),) * (grid.ndim - 1)
    parts = [xp.cut(grid, (*every, slice(a, a + 1))) for a in range(grid.shape[-1])]
    shape = (grid.shape[0], math.prod(grid.shape[1:-1]))
    return [xp.reshape(part, shape) for part in reversed(parts)]


def _read(xp, x, grid, mode="linear", padding_mode="zeros", align_corners=0):
    """Grid coordinates go from -1 to 1, over the positions' middles or their outer edges."""
    spans = _spans(x.shape[2:], align_corners)
    shift = 0.0 if align_corners else 0.5
    at = [(part + 1.0) * span - shift for part, span in zip(_parts(xp, grid), spans, strict=True)]
    samples = xp.indices(list(range(x.shape[0])), grid)
    mode = _MODES.get(mode, mode)
    return Reading.of(xp, x, samples, at, mode, _inside(padding_mode, align_corners)), spans


def _grid_sample(xp, x, grid, **said):
    reading, _ = _read(xp, x, grid, **said)
    return xp.reshape(reading.value(), (*x.shape[:2], *grid.shape[1:-1]))


def _grid_offset(xp, y, x, grid, *, varies, **said):
    """``y`` is linear in ``x``; what the grid's derivative accounts for is taken away."""
    if not varies[1]:
        return None
    reading, spans = _read(xp, x, grid, **said)
    left = None if varies[0] else xp.reshape(y, reading.value().shape)
    for axis, (part, span) in enumerate(zip(_parts(xp, grid), spans, strict=True)):
        share = reading.value(axis) * xp.expand_dims(part * span, axis=1)
        left = -share if left is None else left - share
    return xp.reshape_like(left, y)


@operator("GridSample", role="pooling", offset=_grid_offset, forward=_grid_sample)
def grid_sample(xp, g, y, x, grid, *, varies, **said):
    reading, spans = _read(xp, x, grid, **said)
    flat = xp.reshape(g, (*x.shape[:2], math.prod(g.shape[2:])))
    given = [flat] * len(reading.taps)
    to_grid = None
    if varies[1]:
        parts = [
            xp.expand_dims(reading.to_places(given, axis) * span, axis=-1)
            for axis, span in enumerate(spans)
        ]
        to_grid = xp.reshape_like(xp.concat(parts[::-1], axis=2), grid)
    return (reading.back(given) if varies[0] else None, to_grid)


# ----- The grid of an affine map -----


def _middles(n, align_corners):
    """The coordinates of ``n`` positions, from -1 to 1 over their middles or their outer edges."""
    if align_corners:
        return [2 * i / (n - 1) - 1 if n > 1 else 0.0 for i in range(n)]
    return [(2 * i + 1) / n - 1 for i in range(n)]


def _plain(xp, theta, size, align_corners):
    """The coordinates of every position, the last axis first, and a one: [P,D+1]."""
    axes = [_middles(n, align_corners) for n in xp.integers(size)[2:]]
    places = [[*reversed(place), 1.0] for place in itertools.product(*axes)]
    return xp.constant(places, theta)


def _affine_grid(xp, theta, size, *, align_corners=0):
    sizes = xp.integers(size)[2:]
    plain = _plain(xp, theta, size, align_corners)
    moved = xp.matmul(plain, xp.permute_dims(theta, (0, 2, 1)))
    return xp.reshape(moved, (theta.shape[0], *sizes, len(sizes)))


@operator("AffineGrid", role="linear", forward=_affine_grid, fixed=(1,))
def affine_grid(xp, g, y, theta, size, *, align_corners=0):
    n, rank = theta.shape[:2]
    moved = xp.reshape(g, (n, math.prod(g.shape[1:-1]), rank))
    plain = _plain(xp, theta, size, align_corners)
    return (xp.matmul(xp.permute_dims(moved, (0, 2, 1)), plain), None)
