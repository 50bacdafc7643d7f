"""Synthetic fundus photographs, every one with a known grade and a mask of each lesion kind.

`python -m models.dr.retina --sheet out.png` draws eyes of every grade on one sheet;
`python -m models.dr.retina --save folder --count 100` writes images and their masks.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from models.dr.anatomy import HARMLESS, blemish, grow, paint
from models.dr.canvas import Canvas
from models.dr.lesions import DECIDING, KINDS, Patient, afflict, afflict_by

# How strongly each matter swallows red, green and blue, and what the light matters look like.
BLOOD = np.array([0.22, 0.72, 0.55], np.float32)
PIGMENT = np.array([0.28, 0.42, 0.45], np.float32)
LIGHT = {
    "disc": ((1.34, 1.75, 2.1), 0.9),
    "cup": ((1.5, 2.25, 3.6), 0.65),
    "scar": ((1.12, 1.6, 2.0), 0.9),
    "cotton": ((1.25, 1.9, 2.5), 0.9),
    "exudate": ((1.45, 2.35, 2.3), 1.0),
    "drusen": ((1.3, 1.7, 1.7), 0.9),
    "sheen": ((1.2, 1.6, 1.8), 0.8),
}
CAMERAS = np.array(
    [
        (0.63, 0.32, 0.07),
        (0.74, 0.42, 0.20),
        (0.60, 0.27, 0.11),
        (0.80, 0.46, 0.26),
        (0.70, 0.32, 0.08),
        (0.56, 0.33, 0.12),
    ],
    np.float32,
)


@dataclass(frozen=True)
class Retina:
    """A photograph [H, W, 3], its grade 0..4, a mask [H, W] per lesion kind, and which eye.

    ``sole`` is what alone tells the grade, where something does.
    """

    image: np.ndarray
    grade: int
    masks: dict[str, np.ndarray]
    eye: str
    sole: str | None = None

    @property
    def deciding(self) -> np.ndarray:
        """The pixels [H, W] of the lesions that make the grade: of all, or of the sole kind."""
        return np.any([self.masks[kind] for kind in self.deciding_kinds], 0)

    @property
    def deciding_kinds(self) -> tuple[str, ...]:
        """The kinds of lesion that make the grade: all, or the sole kind."""
        return tuple(kind for kind in self.masks if kind == self.sole) or tuple(self.masks)


def retina(
    seed: int, grade: int, size: int = 640, sole: str | None = None, without: str | None = None
) -> Retina:
    """Paint one retina; the same seed gives the same eye and camera whatever the grade.

    Parameters
    ----------
    sole
        What alone tells the grade: a kind of lesion that decides it (`lesions.DECIDING`), or for
        the grades 0 and 1 a harmless thing to be told from lesions (`anatomy.HARMLESS`). Without it
        an eye has all that is usual for its grade.
    without
        A kind of lesion that is left out while all else stays as it is, pixel for pixel but for the
        blur of that lesion. Its mask tells where it would be.
    """
    if grade not in range(5):
        raise ValueError(f"grade {grade}: the scale runs from 0 (none) to 4 (proliferative)")
    if sole not in signs(grade) and sole is not None:
        raise ValueError(f"{sole} alone makes no grade {grade}; one of {signs(grade)} can")
    if without not in KINDS and without is not None:
        raise ValueError(f"{without} is no kind of lesion; the kinds are {KINDS}")
    body, disease, light, harmless = (np.random.default_rng([seed, part]) for part in range(4))
    canvas = Canvas(size)
    eye = grow(body)
    paint(canvas, eye, body)
    blemish(canvas, eye, body)
    patient = Patient(canvas, eye, disease, without=without)
    if sole in HARMLESS:
        HARMLESS[sole](canvas, eye, harmless)
    if sole is None or grade < 2:
        afflict(patient, grade)
    else:
        afflict_by(patient, grade, sole)
    inside = canvas.radius < 0.99
    masks = {kind: mask & inside for kind, mask in patient.masks.items()}
    image = photograph(canvas, eye.disc, light)
    side = "left"
    if body.random() < 0.5:
        side, image = "right", image[:, ::-1]
        masks = {kind: mask[:, ::-1].copy() for kind, mask in masks.items()}
    return Retina(np.ascontiguousarray(image), grade, masks, side, sole)


def signs(grade: int) -> tuple[str, ...]:
    """Name what may be the sole sign of a grade."""
    return (*HARMLESS, *DECIDING.get(grade, ())) if grade < 2 else DECIDING[grade]


# ----- Light -----


def photograph(canvas: Canvas, disc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light the painted retina and take its picture with one of many cameras."""
    colour = rng.dirichlet(np.full(len(CAMERAS), 0.5)).astype(np.float32) @ CAMERAS
    colour = colour * rng.uniform(0.82, 1.12)
    scene = choroid(canvas, rng) * colour
    layers = canvas.layers
    vivid = rng.uniform(0.75, 1.1)
    for name in ("drusen", "scar", "disc", "cup"):
        blend(scene, layers[name], colour, name)
    absorb(scene, layers["pigment"], PIGMENT)
    absorb(scene, vivid * layers["blood"], BLOOD)
    scene *= 1 + (layers["glint"] * layers["blood"])[..., None]
    for name in ("sheen", "cotton", "exudate"):
        blend(scene, layers[name], colour, name)
    lit = flash(canvas, disc, rng) * (1 - 0.5 * layers["dust"])
    return develop(canvas, scene * lit[..., None], rng)


def blend(scene: np.ndarray, cover: np.ndarray, colour: np.ndarray, name: str) -> None:
    """Cover the scene with a light matter, whose colour follows the camera's."""
    tint, opacity = LIGHT[name]
    target = np.minimum(colour * np.array(tint, np.float32), (1.0, 0.92, 0.62))
    lies = cover > 0
    scene[lies] += (opacity * cover[lies])[:, None] * (target - scene[lies])


def absorb(scene: np.ndarray, depth: np.ndarray, colour: np.ndarray) -> None:
    """Darken the scene where a matter lies, each colour as much as that matter takes of it."""
    lies = depth > 0
    scene[lies] *= np.exp(-depth[lies][:, None] * colour)


def choroid(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Weave the texture behind the retina: mottled, and in some eyes with vessels of its own."""
    grains = ((0.5, 1), (0.2, 0.7), (0.07, 0.5), (0.025, 0.35))
    mottle = sum(weight * canvas.cloud(rng, grain) for grain, weight in grains)
    streaks = np.abs(canvas.cloud(rng, 0.09) + 0.5 * canvas.cloud(rng, 0.04))
    tiger = rng.uniform(0, 0.05) * (np.minimum(streaks, 1) - 0.6)
    warm = 0.05 * canvas.cloud(rng, 0.6) - rng.uniform(0, 0.16) * canvas.radius**4
    shade = 0.03 * mottle - tiger
    texture = 1 + np.stack([shade + 0.3 * warm, 1.7 * shade - warm, 2 * shade - warm], -1)
    return texture.astype(np.float32)


def flash(canvas: Canvas, disc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light the retina unevenly: dimmer to the rim, brighter about the disc, aslant."""
    tilt = rng.normal(0, 0.09, 2)
    level = 1 + tilt[0] * canvas.x + tilt[1] * canvas.y
    level -= rng.uniform(0.05, 0.38) * canvas.radius ** rng.uniform(2, 4)
    near = np.hypot(canvas.x - disc[0], canvas.y - disc[1])
    return level + rng.uniform(0, 0.12) * np.exp(-((near / 0.4) ** 2))


def develop(canvas: Canvas, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur the scene, cut it to a disc, and add the noise of the sensor."""
    # A finer grid sees the same blur over more pixels.
    blur = rng.triangular(0.4, 0.7, 1.8) * canvas.size / 640
    scene = ndimage.gaussian_filter(scene, (blur, blur, 0), truncate=3)
    scene = np.clip(scene, 0, 1) ** rng.uniform(0.9, 1.12)
    view = 0.995 - canvas.radius
    if rng.random() < 0.3:  # a notch beside the disc tells which way up the film was
        view = np.maximum(view, 0.04 - np.hypot(canvas.x - 0.715, canvas.y + 0.715))
    rim = np.clip(view / (1.5 * canvas.pixel) + 0.5, 0, 1)
    haze = rng.uniform(0, 0.03) * np.clip((canvas.radius - 0.93) / 0.07, 0, 1)
    scene = (scene + haze[..., None]) * rim[..., None]
    grain = rng.uniform(0.006, 0.016) * np.sqrt(scene + 0.02)
    noise = rng.standard_normal(scene.shape, np.float32)
    return np.clip(255 * (scene + grain * noise) + 1.5, 0, 255).astype(np.uint8)


# ----- Command line -----


def sheet(columns: int, size: int, seed: int = 0) -> Image.Image:
    """Lay eyes of the five grades out in five rows."""
    page = Image.new("RGB", (columns * size, 5 * size))
    for grade in range(5):
        for column in range(columns):
            picture = Image.fromarray(retina(seed + 10 * grade + column, grade).image)
            page.paste(picture.resize((size, size)), (column * size, grade * size))
    return page


def store(folder: Path, count: int, size: int) -> None:
    """Write images named grade_seed.png, each with an npz of its masks beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        eye = retina(seed, seed % 5, size)
        name = folder / f"{eye.grade}_{seed}"
        Image.fromarray(eye.image).save(f"{name}.png")
        np.savez_compressed(f"{name}.npz", **eye.masks)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, help="draw eyes of every grade into this picture")
    parser.add_argument("--save", type=Path, help="write images and masks into this folder")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--size", type=int, default=640)
    options = parser.parse_args()
    if options.sheet:
        sheet(4, 320).save(options.sheet)
    if options.save:
        store(options.save, options.count, options.size)


if __name__ == "__main__":
    main()
