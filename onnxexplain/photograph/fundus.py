"""Finding the retina in a photograph of the eye's ground, whatever the framing.

The networks that grade diabetic retinopathy want the retina's disc to fill the image, on black (de
la Torre, Valls and Puig 2017). Photographs show it anywhere, cut off at the top and the bottom,
with a notch, a date, or hardly lit. So a circle is fitted to its rim: sampled so that a minority of
strays has no say (Fischler and Bolles 1981), then by least squares to what lies on it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]

WORKING = 512
"""The longer side of the reduced photograph that the circle is fitted on."""

SNAP = 0.015
"""A disc this near to filling a square photograph, in radii, is taken to fill it."""


@dataclass(frozen=True)
class Disc:
    """The retina in a photograph, in its pixels; x runs from the left edge, y from the top."""

    x: float
    y: float
    radius: float
    found: bool = True

    @property
    def box(self) -> Box:
        """The square about it: left, top, right, bottom; it may reach beyond the photograph."""
        return (
            self.x - self.radius,
            self.y - self.radius,
            self.x + self.radius,
            self.y + self.radius,
        )


def find(image: Image.Image) -> Disc:
    """Find the retina's disc; without a rim to go by, it is the largest circle in the middle."""
    width, height = image.size
    middle = Disc(width / 2, height / 2, min(width, height) / 2, found=False)
    reduction = max(1.0, max(width, height) / WORKING)
    size = max(1, round(width / reduction)), max(1, round(height / reduction))
    if min(size) < 16:
        return middle
    small = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), np.float32)
    circle = fit(rim(small.max(-1)), min(size))
    if circle is None:
        return middle
    x, y, radius = circle
    across, down = width / size[0], height / size[1]
    disc = Disc(x * across, y * down, radius * (across + down) / 2)
    off = max(abs(a - b) for a, b in zip(disc.box, middle.box, strict=True))
    filled = width == height and off < SNAP * middle.radius
    return Disc(middle.x, middle.y, middle.radius) if filled else disc


def cut(
    image: Image.Image, size: tuple[int, int] | None, method: Image.Resampling
) -> tuple[Image.Image, Disc]:
    """Return the disc resized to fill ``size``, its surround black, and where it was.

    Without a size it keeps its own.
    """
    disc = find(image)
    box = disc.box
    whole = (0.0, 0.0, float(image.width), float(image.height))
    part, inner = image, box
    if any(a < b for a, b in zip(box[:2], whole[:2], strict=True)) or any(
        a > b for a, b in zip(box[2:], whole[2:], strict=True)
    ):
        left, top = math.floor(box[0]), math.floor(box[1])
        part = image.crop((left, top, math.ceil(box[2]), math.ceil(box[3])))  # black beyond
        inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    rows, columns = size or (max(1, round(2 * disc.radius)),) * 2
    if part.size != (columns, rows) or inner != whole:
        part = part.resize((columns, rows), method, box=inner)
    pixels = np.array(part)
    y, x = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (rows, columns))
    pixels[np.hypot(x[None, :], y[:, None]) > 1] = 0
    return Image.fromarray(pixels), disc


# ----- The rim -----


def rim(light: Array) -> Array:
    """Return points [n, 2] where, coming from each side, the photograph ceases to be dark.

    Where the light begins at the very edge of the photograph there is no rim but a cut.
    """
    dark = float(np.percentile(np.concatenate([c.ravel() for c in _corners(light)]), 25))
    bright = float(np.percentile(light, 90))
    level = dark + max(4.0, 0.15 * (bright - dark))
    found = [
        side
        for plane, turned in ((light, False), (light.T, True))
        for mirrored in (False, True)
        for side in [_first(plane, level, turned, mirrored)]
    ]
    return np.concatenate(found)


def _corners(light: Array) -> list[Array]:
    n = max(2, min(light.shape) // 24)
    return [light[:n, :n], light[:n, -n:], light[-n:, :n], light[-n:, -n:]]


def _first(plane: Array, level: float, turned: bool, mirrored: bool) -> Array:
    """Find in each row where the light first exceeds ``level`` for three pixels on end."""
    seen = plane[:, ::-1] if mirrored else plane
    above = seen > level
    lasting = above[:, :-2] & above[:, 1:-1] & above[:, 2:]
    rows = np.flatnonzero(lasting.any(1) & ~lasting[:, :2].any(1))
    at = lasting[rows].argmax(1)
    before, after = seen[rows, at - 1], seen[rows, at]
    along = at + 0.5 - (after - level) / np.maximum(after - before, 1e-6)
    if mirrored:
        along = plane.shape[1] - along
    points = np.stack([along, rows + 0.5], 1)
    return points[:, ::-1] if turned else points


# ----- The circle -----


def fit(points: Array, side: int) -> tuple[float, float, float] | None:
    """Fit a circle to the points that lie on one; None if too few do."""
    if len(points) < 12:
        return None
    rng = np.random.default_rng(0)
    threes = points[rng.integers(len(points), size=(600, 3))]
    centres, radii = _through(threes)
    sane = (radii > 0.2 * side) & (radii < 2 * side)
    if not sane.any():
        return None
    centres, radii = centres[sane], radii[sane]
    distance = np.hypot(*(points[None] - centres[:, None]).transpose(2, 0, 1))
    near = np.abs(distance - radii[:, None]) < 0.01 * radii[:, None]
    best = int(near.sum(1).argmax())
    chosen = near[best]
    for tolerance in (0.01, 0.006, 0.006):
        if chosen.sum() < max(12, 0.15 * len(points)):
            return None
        x, y, radius = _least_squares(points[chosen])
        off = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius)
        chosen = off < max(tolerance * radius, 0.75)
    return x, y, radius


def _through(threes: Array) -> tuple[Array, Array]:
    """Return the centres and radii of circles through three points each."""
    a, b, c = threes[:, 0], threes[:, 1], threes[:, 2]
    u, v = b - a, c - a
    twice = 2 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    twice = np.where(np.abs(twice) < 1e-6, 1e-6, twice)
    uu, vv = (u**2).sum(1), (v**2).sum(1)
    x = (v[:, 1] * uu - u[:, 1] * vv) / twice
    y = (u[:, 0] * vv - v[:, 0] * uu) / twice
    return a + np.stack([x, y], 1), np.hypot(x, y)


def _least_squares(points: Array) -> tuple[float, float, float]:
    """Kasa's fit: x^2 + y^2 is linear in the centre."""
    middle = points.mean(0)
    p = points - middle
    system = np.column_stack([2 * p, np.ones(len(p))])
    (x, y, c), *_ = np.linalg.lstsq(system, (p**2).sum(1), rcond=None)
    return float(x + middle[0]), float(y + middle[1]), math.sqrt(max(c + x * x + y * y, 0.0))
