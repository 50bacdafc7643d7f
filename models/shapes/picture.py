"""Colour pictures of any of five kinds of shape, once or twice each, and where each of them is.

`python -m models.shapes.picture sheet.png` draws sixteen of them on one page.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 96
KINDS = ("circle", "square", "triangle", "cross", "ring")
FINE = 4  # drawn this many times larger and reduced, for smooth edges
MOST = 6  # shapes in one picture
CONTRAST = 90  # least distance of a shape's colour from the background's, of 441

VALIDATION = 1_000_000  # seeds from here on are never trained on; the first 500 choose weights
TEST = VALIDATION + 500  # and those from here on have no say in that either


@dataclass(frozen=True)
class Shape:
    """One shape: its kind, its pixels (bool [96, 96]), and its box x0, y0, x1, y1 (exclusive)."""

    kind: str
    mask: np.ndarray
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """The image, uint8 [96, 96, 3], and what is on it."""

    image: np.ndarray
    shapes: tuple[Shape, ...]

    @property
    def labels(self) -> np.ndarray:
        """Tell of each kind whether it is there: float32 [5]."""
        there = {shape.kind for shape in self.shapes}
        return np.array([kind in there for kind in KINDS], np.float32)

    def mask(self, kind: str) -> np.ndarray:
        """Return the pixels of every shape of a kind, bool [96, 96]."""
        masks = [shape.mask for shape in self.shapes if shape.kind == kind]
        return np.any(masks, 0) if masks else np.zeros((SIZE, SIZE), bool)


def picture(seed: int) -> Picture:
    """Draw one picture; shapes keep apart from one another and from the edge."""
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in KINDS if rng.random() < 0.45 for _ in range(1 + (rng.random() < 0.3))]
    kinds = [str(kind) for kind in rng.permutation(kinds)[:MOST]]
    ground = rng.uniform(0, 255, 3)
    image, shapes = np.ones((SIZE, SIZE, 3)) * ground, []
    for kind, (x, y, radius) in zip(kinds, _places(rng, len(kinds)), strict=True):
        cover = _draw(kind, x, y, radius, rng.uniform(0, 2 * np.pi))
        image += cover[..., None] * (_colour(rng, ground) - ground)
        mask = cover > 0.5
        rows, columns = np.nonzero(mask)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        shapes.append(Shape(kind, mask, tuple(int(v) for v in box)))
    image += rng.normal(0, 6, image.shape)
    return Picture(np.clip(image, 0, 255).round().astype(np.uint8), tuple(shapes))


def _places(rng: np.random.Generator, count: int) -> list[tuple[float, float, float]]:
    """Find discs (x, y, radius) that do not touch."""
    while True:
        found: list[tuple[float, float, float]] = []
        for _ in range(200):
            if len(found) == count:
                return found
            radius = rng.uniform(8, 15)
            x, y = rng.uniform(radius + 1, SIZE - radius - 1, 2)
            if all(np.hypot(x - a, y - b) > radius + r + 1 for a, b, r in found):
                found.append((float(x), float(y), float(radius)))


def _colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.linalg.norm(colour - ground) > CONTRAST:
            return colour


def _draw(kind: str, x: float, y: float, radius: float, angle: float) -> np.ndarray:
    """Return how far each pixel is covered by a shape that fits into a disc."""
    large = Image.new("L", (SIZE * FINE, SIZE * FINE))
    draw = ImageDraw.Draw(large)
    x, y, radius = x * FINE, y * FINE, radius * FINE
    if kind in ("circle", "ring"):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        if kind == "ring":
            hole = 0.55 * radius
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    else:
        corners = _corners(kind)
        around = np.arctan2(corners[:, 1], corners[:, 0]) + angle
        reach = np.hypot(*corners.T) * radius
        points = np.stack([x + reach * np.cos(around), y + reach * np.sin(around)], 1)
        draw.polygon(points.ravel().tolist(), fill=255)
    return np.asarray(large.reduce(FINE), np.float64) / 255


def _corners(kind: str) -> np.ndarray:
    """Return the corners of a shape in the unit disc."""
    if kind == "cross":
        a, b = 0.3, 0.954  # the arms' half width and length; their corners lie on the circle
        arm = [(b, -a), (b, a), (a, a), (a, b)]
        quarters = [
            np.array([(x * c - y * s, x * s + y * c) for x, y in arm])
            for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))
        ]
        return np.concatenate(quarters)
    count = {"triangle": 3, "square": 4}[kind]
    around = np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(around), np.sin(around)], 1)


def batch(pictures: Iterable[Picture]) -> tuple[np.ndarray, np.ndarray]:
    """Make what the network takes, float32 [N, 3, 96, 96] in 0..1, and the labels [N, 5]."""
    drawn = list(pictures)
    images = np.stack([p.image for p in drawn]).astype(np.float32) / 255
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), np.stack([p.labels for p in drawn])


def main() -> None:
    """Draw a page of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sheet", type=Path, help="a picture file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    options = parser.parse_args()
    seen = [np.pad(picture(options.seed + i).image, ((2, 2), (2, 2), (0, 0))) for i in range(16)]
    rows = [np.hstack(seen[i : i + 4]) for i in range(0, 16, 4)]
    Image.fromarray(np.vstack(rows)).save(options.sheet)


if __name__ == "__main__":
    main()
