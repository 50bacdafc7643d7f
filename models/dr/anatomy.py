"""What a synthetic retina shows without the disease: disc, macula, vessels, harmless blemishes."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.dr.canvas import Canvas, Point

STEP = 0.012
FADING = 0.25  # the last of a vessel's way, on which it thins to a capillary


@dataclass(frozen=True)
class Vessel:
    """A blood vessel: where it runs, how wide it is along the way, and of which of two kinds."""

    points: np.ndarray
    width: np.ndarray
    vein: bool

    @property
    def thinning(self) -> np.ndarray:
        """The share of its width that is painted, along the way: none ends abruptly in view."""
        left = STEP * np.arange(len(self.points))[::-1]
        in_view = np.hypot(*self.points[-1]) < 1
        return np.minimum(left / FADING, 1) if in_view else np.ones_like(left)


@dataclass(frozen=True)
class Eye:
    """Where things lie in one eye whose disc is left of the macula, before any mirroring."""

    disc: np.ndarray
    disc_radius: float
    fovea: np.ndarray
    vessels: tuple[Vessel, ...]


def grow(rng: np.random.Generator) -> Eye:
    """Draw one eye at random."""
    disc = np.array([rng.normal(-0.52, 0.07), rng.normal(-0.02, 0.04)])
    radius = rng.uniform(0.125, 0.155)
    fovea = disc + np.array([rng.normal(0.72, 0.04), rng.normal(0.08, 0.03)])
    vessels: list[Vessel] = []
    for trunk in trunks(rng, disc, radius):
        vessels += branches(rng, trunk, fovea, depth=0)
    return Eye(disc, radius, fovea, tuple(vessels))


# ----- Vessels -----


def walk(
    rng: np.random.Generator, start: Point, headings: Point, length: float, winding: float
) -> np.ndarray:
    """Follow a path whose heading turns from the first angle to the second, winding as it goes."""
    s = np.arange(0, length, STEP)
    turn = np.clip(s / min(0.75, length), 0, 1)
    heading = headings[0] + (headings[1] - headings[0]) * turn * turn * (3 - 2 * turn)
    for wave in (0.55, 0.3, 0.16, 0.08):
        swing = winding * np.sqrt(wave) * rng.normal()
        heading = heading + swing * np.sin(2 * np.pi * s / wave + rng.uniform(0, 2 * np.pi))
    moves = np.stack([np.cos(heading), np.sin(heading)], 1) * STEP
    return np.asarray(start) + np.cumsum(moves, 0)


def trunks(rng: np.random.Generator, disc: np.ndarray, radius: float) -> list[Vessel]:
    """Send an artery and a vein out of the disc along each arcade, and small ones between."""
    wind = rng.uniform(0.2, 0.6)
    scale = rng.uniform(0.85, 1.15)
    root = disc - np.array([0.25 * radius, 0])
    trees = []
    for up in (-1, 1):
        arcade = rng.normal(0, 8)
        for vein in (False, True):
            wide = scale * (0.034 if vein else 0.025)
            # degrees from the line disc-macula: at the disc, farther out; length; share of width;
            # how many eyes have it
            routes = [
                (62 + arcade + rng.normal(0, 9), rng.normal(8, 10), 2.0, 1.0, 1.0),
                (112 + rng.normal(0, 10), rng.normal(138, 14), 0.9, 0.65, 0.9),
                (88 + rng.normal(0, 8), rng.normal(66, 10), 1.1, 0.6, 0.45),
                (24 + rng.normal(0, 8), rng.normal(4, 8), 0.48, 0.28, 0.7),
                (rng.normal(160, 12), rng.normal(172, 12), 0.6, 0.33, 0.5),
            ]
            for near, far, length, share, common in routes:
                if rng.random() > common:
                    continue
                start = root + rng.normal(0, 0.14 * radius, 2) + np.array([0, 0.2 * up * radius])
                headings = up * np.radians([near, far])
                points = walk(rng, start, headings, length, wind * (0.7 if vein else 1))
                taper = np.linspace(1, 0.35, len(points))
                trees.append(Vessel(points, wide * share * taper, vein))
    return trees


def branches(rng: np.random.Generator, stem: Vessel, fovea: np.ndarray, depth: int) -> list[Vessel]:
    """Keep what of a vessel lies in view and outside the fovea, and let it branch."""
    off = (np.hypot(*stem.points.T) > 1.02) | (np.hypot(*(stem.points - fovea).T) < 0.11)
    n = int(np.argmax(off)) if off.any() else len(stem.points)
    if n < 4 or stem.width[0] < 0.003:
        return []
    stem = Vessel(stem.points[:n], stem.width[:n], stem.vein)
    tree = [stem]
    if depth == 3:
        return tree
    side = rng.choice([-1, 1])
    at = int(rng.uniform(0.2, 0.45) / STEP)
    while at < n - 3:
        ahead = np.arctan2(*(stem.points[at + 1] - stem.points[at])[::-1])
        heading = ahead + side * rng.uniform(0.5, 1.0)
        onward = ahead + side * rng.uniform(0.1, 0.6)
        length = rng.uniform(0.25, 0.9) * 0.75**depth
        points = walk(rng, stem.points[at], (heading, onward), length, rng.uniform(0.25, 0.7))
        share = rng.uniform(0.3, 0.68)
        width = stem.width[at] * share * np.linspace(1, 0.3, len(points))
        tree += branches(rng, Vessel(points, width, stem.vein), fovea, depth + 1)
        side, at = -side, at + int(rng.uniform(0.12, 0.4) / STEP)
    return tree


# ----- Painting -----


def paint(canvas: Canvas, eye: Eye, rng: np.random.Generator) -> None:
    """Paint the disc, its cup, the macula and the vessels."""
    window, cover = canvas.blob(
        rng, eye.disc, eye.disc_radius, 0.05, rng.uniform(0.86, 1), 0, rng.uniform(0.02, 0.05)
    )
    canvas.add("disc", cover, window)
    cup = eye.disc + rng.normal(0, 0.012, 2)
    window, cover = canvas.blob(rng, cup, rng.uniform(0.3, 0.55) * eye.disc_radius, 0.1, soft=0.06)
    canvas.add("cup", cover, window)
    away = np.hypot(canvas.x - eye.fovea[0], canvas.y - eye.fovea[1])
    macula = rng.uniform(0.3, 0.7) * np.exp(-((away / 0.22) ** 2))
    canvas.add("pigment", macula + rng.uniform(0.2, 0.5) * np.exp(-((away / 0.07) ** 2)))
    rich = rng.uniform(0.8, 1.25)
    for vein, strength in ((False, 0.45 * rich), (True, 0.68 * rich)):
        tracks = [
            (v.points, v.width * v.thinning, strength * min(1, 0.3 + v.width[0] / 0.024))
            for v in eye.vessels
            if v.vein == vein
        ]
        softened = ndimage.gaussian_filter(canvas.ribbons(tracks), 0.0025 / canvas.pixel)
        canvas.add("blood", softened)
    # The wall of a large artery reflects the flash as a bright line along its middle.
    shine = [(v.points, 0.3 * v.width * v.thinning, 1.0) for v in eye.vessels if v.width[0] > 0.012]
    canvas.add("glint", canvas.ribbons(shine) * rng.uniform(0.05, 0.3))


def drusen(canvas: Canvas, eye: Eye, rng: np.random.Generator) -> None:
    """Paint many plain drusen about the macula, which soft exudates might be taken for."""
    for _ in range(rng.integers(20, 70)):
        at, radius = eye.fovea + rng.normal(0, 0.2, 2), rng.uniform(0.006, 0.018)
        window, cover = canvas.blob(rng, at, radius, 0.2, soft=rng.uniform(0.01, 0.02))
        canvas.add("drusen", rng.uniform(0.3, 0.8) * cover, window)


def reflexes(canvas: Canvas, eye: Eye, rng: np.random.Generator) -> None:
    """Paint the sheen of a young retina: faint bright streaks along the large vessels."""
    large = [v for v in eye.vessels if v.width[0] > 0.015 and len(v.points) > 20]
    for _ in range(rng.integers(4, 14)):
        stem = large[rng.integers(len(large))].points
        i = int(rng.uniform(0.05, 0.6) * len(stem))
        ahead = stem[i + 1] - stem[i]
        at = stem[i] + rng.normal(0, 0.03, 2)
        window, cover = canvas.blob(
            rng,
            at,
            rng.uniform(0.012, 0.028),
            0.3,
            rng.uniform(2.5, 5),
            np.arctan2(ahead[1], ahead[0]),
            0.05,
        )
        canvas.add("sheen", rng.uniform(0.2, 0.6) * cover, window)


# Harmless bright things, for eyes without and with few microaneurysms.
HARMLESS = {"drusen": drusen, "reflexes": reflexes}


def blemish(canvas: Canvas, eye: Eye, rng: np.random.Generator) -> None:
    """Paint what a grader must not mistake for disease: dust on the lens, drusen, a naevus."""
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 6)):
            at, radius = rng.normal(0, 0.5, 2), rng.uniform(0.006, 0.03)
            window, cover = canvas.blob(rng, at, radius, 0.2, soft=rng.uniform(0.01, 0.03))
            canvas.add("dust", rng.uniform(0.2, 0.7) * cover, window)
    if rng.random() < 0.25:
        for _ in range(rng.integers(5, 40)):
            at, radius = eye.fovea + rng.normal(0, 0.17, 2), rng.uniform(0.005, 0.014)
            window, cover = canvas.blob(rng, at, radius, 0.2, soft=0.015)
            canvas.add("drusen", rng.uniform(0.15, 0.55) * cover, window)
    if rng.random() < 0.06:
        at, radius = rng.normal(0, 0.4, 2), rng.uniform(0.04, 0.1)
        window, cover = canvas.blob(rng, at, radius, 0.15, soft=0.04)
        canvas.add("pigment", rng.uniform(0.4, 0.9) * cover, window)
