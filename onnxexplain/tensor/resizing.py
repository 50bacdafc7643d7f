"""Resizing along one axis: which positions every new position reads, and with what weights.

The standard leaves rounding open where a new position falls between two old ones; coordinates are
computed in float32, in the order in which ONNX Runtime computes them, so that both take the same
side. Resizing is separable: a tensor is resized one axis after the other.
"""

import math
import struct
from dataclasses import dataclass
from functools import lru_cache

TIE = 1e-6
"""ONNX Runtime takes what is so near to the middle of two positions for the middle."""

Row = dict[int, float]
"""By old position, the weight that it has in one new position; empty outside the old ones."""


@dataclass(frozen=True)
class Resizing:
    """The attributes of ONNX's Resize that say how one axis is resized."""

    mode: str = "nearest"
    coordinate_transformation_mode: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False

    @property
    def extrapolates(self) -> bool:
        """Whether new positions outside the old ones get a value of their own."""
        return self.coordinate_transformation_mode == "tf_crop_and_resize"


def float32(value: float) -> float:
    """Return the nearest float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


@lru_cache(maxsize=256)
def rows(
    old: int, new: int, scale: float, how: Resizing, roi: tuple[float, float] = (0.0, 1.0)
) -> tuple[Row, ...]:
    """Return what each of ``new`` positions reads of ``old`` ones.

    ``scale`` is new over old size, which need not be their quotient; ``roi`` the part that
    ``tf_crop_and_resize`` crops. An axis of scale 1 is left as it is, cropped or not.
    """
    scale = float32(scale)
    if scale == 1.0:
        return tuple({i: 1.0} for i in range(new))
    support = _support(scale, how)
    found: list[Row] = []
    for i in range(new):
        at = coordinate(i, old, new, scale, how.coordinate_transformation_mode, roi)
        if how.extrapolates and not 0 <= at <= old - 1:
            found.append({})
        elif how.antialias and old == new:
            found.append({i: 1.0})
        elif how.antialias:
            found.append(_smoothed(at, old, scale, support, how))
        else:
            found.append(_read(at, old, how))
    return tuple(found)


def coordinate(
    i: int, old: int, new: int, scale: float, mode: str, roi: tuple[float, float]
) -> float:
    """Return where new position ``i`` lies among the old ones, a float32."""
    f = float32
    if mode == "asymmetric":
        return f(i / scale)
    if mode == "align_corners":
        return 0.0 if new == 1 else f(f(i * (old - 1.0)) / (new - 1))
    if mode == "pytorch_half_pixel" and new == 1:
        return 0.0
    if mode == "tf_half_pixel_for_nn":
        return f((i + 0.5) / scale)
    if mode == "tf_crop_and_resize":
        start, end = map(f, roi)
        if new == 1:
            return f(0.5 * f(start + end) * (old - 1))
        step = f(f(f(i * f(end - start)) * (old - 1)) / (new - 1))
        return f(f(start * (old - 1)) + step)
    if mode == "half_pixel_symmetric":
        adjustment = f(new / f(scale * old))
        offset = f(f(old / 2) * f(1 - adjustment))
        return f(offset + (i + 0.5) / scale - 0.5)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return f(f((i + 0.5) / scale) - 0.5)
    raise NotImplementedError(f"coordinate_transformation_mode `{mode}`")


# ----- What is read at a coordinate -----


def _read(at: float, old: int, how: Resizing) -> Row:
    if how.mode == "nearest":
        return {min(max(_rounded(at, how.nearest_mode), 0), old - 1): 1.0}
    if how.mode == "linear":
        at = min(max(at, 0.0), old - 1.0)
        low = math.floor(at)
        return _at_edges({low: 1 - (at - low), low + 1: at - low}, old)
    low = math.floor(at)
    taps = {low + k: _cubic(at - low - k, how.cubic_coeff_a) for k in range(-1, 3)}
    if not how.exclude_outside:
        return _at_edges(taps, old)
    inside = {j: w for j, w in taps.items() if 0 <= j < old}
    total = sum(inside.values())
    return {j: w / total for j, w in inside.items()}


def _rounded(at: float, mode: str) -> int:
    low = math.floor(at)
    part = at - low
    if mode == "floor":
        return low
    if mode == "ceil":
        return math.ceil(at)
    tie = abs(part - 0.5) < TIE
    if mode == "round_prefer_floor":
        return low + int(part > 0.5 and not tie)
    if mode == "round_prefer_ceil":
        return low + int(part > 0.5 or tie)
    raise NotImplementedError(f"nearest_mode `{mode}`")


def _at_edges(taps: Row, old: int) -> Row:
    """What would be read beyond an edge is read at the edge."""
    row: Row = {}
    for j, weight in taps.items():
        place = min(max(j, 0), old - 1)
        if weight:
            row[place] = row.get(place, 0.0) + weight
    return row


def _cubic(x: float, a: float) -> float:
    """Keys' cubic convolution kernel (1981)."""
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


# ----- Antialiased: a kernel as wide as what shrinks -----


def _support(scale: float, how: Resizing) -> float:
    reach = 2.0 if how.mode == "cubic" else 1.0
    return float32(reach * max(float32(1 / scale), 1.0))


def _smoothed(at: float, old: int, scale: float, support: float, how: Resizing) -> Row:
    centre = float32(at + 0.5)
    first = math.floor(float32(float32(centre - support) + 0.5))
    last = math.floor(float32(float32(centre + support) + 0.5))
    narrow = min(scale, 1.0)
    taps = {j: _kernel((j + 0.5 - centre) * narrow, how) for j in range(first, last)}
    if how.exclude_outside:
        taps = {j: w for j, w in taps.items() if 0 <= j < old}
    total = sum(taps.values()) or 1.0
    if last <= 0 or first >= old:  # nothing of the old ones is in reach
        return {}
    return _at_edges({j: w / total for j, w in taps.items()}, old)


def _kernel(x: float, how: Resizing) -> float:
    return _cubic(x, how.cubic_coeff_a) if how.mode == "cubic" else max(1 - abs(x), 0.0)
