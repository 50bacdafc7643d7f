"""Reading a tensor between its positions: which ones are read, how much each counts, and back.

Every place is read by a few taps; each reads one position of every channel plane, with a weight
that depends on the place. So reading has a derivative into the tensor and one into the places.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxexplain.tensor import Namespace, Tensor

ALPHA = -0.75
"""The coefficient of GridSample's cubic kernel (Keys 1981)."""

Inside = Callable[[Namespace, Tensor, int], tuple[Tensor, Tensor | None]]
"""Given positions and how many there are: those read instead, and 1 or 0 for whether they count."""


@dataclass(frozen=True)
class Tap:
    """One position read for every place; each tensor is [B,P]."""

    index: Tensor
    """Which, counted row by row within a plane, int64."""
    weight: Tensor
    slopes: tuple[Tensor, ...]
    """How the weight grows with the place, per axis."""


@dataclass(frozen=True)
class Reading:
    """The planes of ``x`` [N,C,...] read by taps: the values are [B,C,P]."""

    xp: Namespace
    x: Tensor
    taps: list[Tap]
    start: Tensor
    """Where the plane of each row and channel begins, [B,C,1]."""
    read: list[Tensor]
    """What every tap reads, unweighted, [B,C,P] each."""

    @classmethod
    def of(
        cls,
        xp: Namespace,
        x: Tensor,
        samples: Tensor,
        at: Sequence[Tensor],
        mode: str,
        inside: Inside,
    ) -> "Reading":
        """Read ``x`` at the places ``at``, [B,P] per axis; ``samples`` [B] says whose planes."""
        channels, sizes = x.shape[1], x.shape[2:]
        area = math.prod(sizes)
        first = xp.reshape(samples, (at[0].shape[0], 1, 1)) * (channels * area)
        own = xp.indices([c * area for c in range(channels)], samples)
        start = first + xp.reshape(own, (1, channels, 1))
        taps = _taps(xp, at, sizes, mode, inside)
        read = [xp.pick(x, start + _planes(xp, tap.index)) for tap in taps]
        return cls(xp, x, taps, start, read)

    def parts(self, axis: int | None = None) -> list[Tensor]:
        """Return what each tap contributes, [B,C,P], or how that grows with the places."""
        found = []
        for read, tap in zip(self.read, self.taps, strict=True):
            weight = tap.weight if axis is None else tap.slopes[axis]
            found.append(read * _planes(self.xp, weight))
        return found

    def value(self, axis: int | None = None) -> Tensor:
        """Return the weighted sum of what is read, or how it grows with the places."""
        parts = self.parts(axis)
        return sum(parts[1:], parts[0])

    def back(self, given: Sequence[Tensor]) -> Tensor:
        """Return the derivative at ``x``, given the one at what each tap contributes."""
        parts, places = [], []
        for g, tap in zip(given, self.taps, strict=True):
            parts.append(g * _planes(self.xp, tap.weight))
            places.append(self.start + _planes(self.xp, tap.index))
        xp = self.xp
        return xp.put_like(xp.concat(parts, axis=2), xp.concat(places, axis=2), self.x)

    def to_places(self, given: Sequence[Tensor], axis: int) -> Tensor:
        """Return the derivative at the places along an axis, [B,P]."""
        total = None
        for g, tap, read in zip(given, self.taps, self.read, strict=True):
            part = tap.slopes[axis] * self.xp.sum(g * read, axis=1)
            total = part if total is None else total + part
        return total


def _planes(xp, v):
    """[B,P] as [B,1,P]: alike in every channel."""
    return xp.expand_dims(v, axis=1)


def _taps(xp, at, sizes, mode, inside):
    axes = []
    for place, many in zip(at, sizes, strict=True):
        row = []
        for position, weight, slope in _KERNELS[mode](xp, place):
            read, counts = inside(xp, position, many)
            if counts is not None:
                weight, slope = weight * counts, slope * counts
            row.append((read, weight, slope))
        axes.append(row)
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    return [_tap(xp, chosen, strides) for chosen in itertools.product(*axes)]


def _tap(xp, chosen, strides):
    index = sum(
        xp.to_int(read) * stride for (read, _, _), stride in zip(chosen, strides, strict=True)
    )
    weights = [weight for _, weight, _ in chosen]
    slopes = tuple(
        math.prod(weights[:axis] + weights[axis + 1 :], start=slope)
        for axis, (_, _, slope) in enumerate(chosen)
    )
    return Tap(index, math.prod(weights[1:], start=weights[0]), slopes)


# ----- Kernels: the positions near a place, their weights, and how those grow -----


def _nearest(xp, at):
    return [(xp.round(at), xp.ones_like(at), xp.zeros_like(at))]


def _linear(xp, at):
    low = xp.floor(at)
    part, one = at - low, xp.ones_like(at)
    return [(low, 1.0 - part, -one), (low + 1.0, part, one)]


def _cubic(xp, at):
    low = xp.floor(at)
    left = at - low
    right = 1.0 - left
    return [
        (low - 1.0, _far(left + 1.0), _far_slope(left + 1.0)),
        (low, _near(left), _near_slope(left)),
        (low + 1.0, _near(right), -_near_slope(right)),
        (low + 2.0, _far(right + 1.0), -_far_slope(right + 1.0)),
    ]


def _near(d):
    """The cubic kernel at a distance of at most 1."""
    return ((ALPHA + 2) * d - (ALPHA + 3)) * d * d + 1.0


def _near_slope(d):
    return (3 * (ALPHA + 2) * d - 2 * (ALPHA + 3)) * d


def _far(d):
    """The cubic kernel at a distance between 1 and 2."""
    return ((ALPHA * d - 5 * ALPHA) * d + 8 * ALPHA) * d - 4 * ALPHA


def _far_slope(d):
    return (3 * ALPHA * d - 10 * ALPHA) * d + 8 * ALPHA


_KERNELS = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}


# ----- What is read beyond the edge -----


def clipped(xp: Namespace, v: Tensor, low: float, high: float) -> Tensor:
    """Return ``v``, and the nearer limit where it is beyond one."""
    return xp.minimum(xp.maximum(v, low), high)


def within(xp: Namespace, v: Tensor, low: float, high: float) -> Tensor:
    """Return 1 where ``v`` lies between two limits, else 0."""
    there = xp.logical_and(v >= low, v <= high)
    return xp.where(there, xp.ones_like(v), 0.0)


def zeros(xp: Namespace, position: Tensor, many: int) -> tuple[Tensor, Tensor | None]:
    """Nothing is read beyond the edge."""
    last = many - 1.0
    return clipped(xp, position, 0.0, last), within(xp, position, 0.0, last)


def border(xp: Namespace, position: Tensor, many: int) -> tuple[Tensor, Tensor | None]:
    """The edge goes on."""
    return clipped(xp, position, 0.0, many - 1.0), None


def mirrored(xp: Namespace, position: Tensor, many: int) -> tuple[Tensor, Tensor | None]:
    """The tensor is reflected at the middle of its first and of its last position."""
    return _reflected(xp, position, 0.0, many - 1.0), None


def mirrored_outside(xp: Namespace, position: Tensor, many: int) -> tuple[Tensor, Tensor | None]:
    """The tensor is reflected at its outer edges, half a position further out."""
    return _reflected(xp, position, -0.5, float(many)), None


def _reflected(xp, position, low, length):
    if length == 0.0:
        return xp.zeros_like(position)
    away = xp.abs(position - low)
    turns = xp.floor(away * (0.5 / length))
    rest = away - turns * (2.0 * length)
    return low + xp.where(rest > length, 2.0 * length - rest, rest)
