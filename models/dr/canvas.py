"""The sheet a synthetic retina is painted on: layers of pigment, and one mask per lesion kind.

Positions and lengths are in units of the retina's radius, with (0, 0) at its middle, x to the
right and y down, so that the same retina can be painted at any size.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Point = Sequence[float] | np.ndarray
Window = tuple[slice, slice]
LAYERS = (
    "blood",
    "pigment",
    "disc",
    "cup",
    "glint",
    "sheen",
    "exudate",
    "cotton",
    "scar",
    "drusen",
    "dust",
)
FINE = 3  # ribbons are drawn this many times larger and reduced, for smooth edges


class Canvas:
    """Float layers [size, size], each telling how much of one matter a pixel shows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pixel = 2 / size
        axis = (np.arange(size, dtype=np.float32) + 0.5) * self.pixel - 1
        self.x, self.y = np.meshgrid(axis, axis)
        self.radius = np.hypot(self.x, self.y)
        self.layers = {name: np.zeros((size, size), np.float32) for name in LAYERS}

    def add(self, layer: str, matter: np.ndarray, window: Window = np.s_[:, :]) -> None:
        """Lay matter on a layer; where some lies already, the thicker of the two stays."""
        below = self.layers[layer][window]
        np.maximum(below, matter, out=below)

    def blob(
        self,
        rng: np.random.Generator,
        at: Point,
        radius: float,
        rough: float = 0.3,
        stretch: float = 1.0,
        angle: float = 0.0,
        soft: float = 0.0,
    ) -> tuple[Window, np.ndarray]:
        """Shape an uneven ellipse: the window it lies in and how far each pixel is covered."""
        reach = radius * stretch * (1 + 2 * rough) + soft + 2 * self.pixel
        window = self._span(at[1] - reach, at[1] + reach), self._span(at[0] - reach, at[0] + reach)
        dx, dy = self.x[window] - at[0], self.y[window] - at[1]
        along = (dx * np.cos(angle) + dy * np.sin(angle)) / stretch
        across = dy * np.cos(angle) - dx * np.sin(angle)
        around = np.arctan2(across, along)
        edge = np.ones_like(around)
        for k in range(2, 7):
            dent = 1.2 * rough * rng.normal() / k**1.5
            edge += dent * np.cos(k * around + rng.uniform(0, 2 * np.pi))
        slope = max(soft, 1.2 * self.pixel)
        cover = (radius * np.maximum(edge, 0.35) - np.hypot(along, across)) / slope + 0.5
        return window, np.clip(cover, 0, 1)

    def ribbons(self, tracks: list[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
        """Draw bands given as (points [n, 2], width at every point [n], strength in 0..1)."""
        large = Image.new("L", (self.size * FINE, self.size * FINE))
        draw = ImageDraw.Draw(large)
        for points, width, strength in sorted(tracks, key=lambda track: track[2]):
            ahead = np.gradient(points, axis=0)
            ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9
            aside = np.stack([-ahead[:, 1], ahead[:, 0]], 1) * width[:, None] / 2
            outline = np.concatenate([points + aside, (points - aside)[::-1]])
            corners = (outline + 1) / self.pixel * FINE
            draw.polygon(corners.ravel().tolist(), fill=int(255 * min(strength, 1)))
        return np.asarray(large.reduce(FINE), np.float32) / 255

    def cloud(self, rng: np.random.Generator, grain: float) -> np.ndarray:
        """Make smooth noise of mean 0 and deviation about 1, with lumps of size `grain`."""
        cells = max(4, round(2 / grain))
        coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        smooth = np.asarray(coarse.resize((self.size, self.size), Image.Resampling.BICUBIC))
        return smooth / (smooth.std() + 1e-6)

    def _span(self, low: float, high: float) -> slice:
        first, last = ((c + 1) / self.pixel for c in (low, high))
        return slice(max(0, int(first)), max(0, min(self.size, int(last) + 1)))
