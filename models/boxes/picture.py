"""Pictures of white circles on black, half of them with one square, and where the square is.

The data of the notebook "circles and boxes" (choosehappy, after utkuozbulak), drawn anew from a
seed. Two things differ, so that the label is always true: a square lies inside the 224 middle
pixels that a network sees, and at least half of it is on black, not on circles already there.

`python -m models.boxes.picture sheet.png` draws sixteen of them on one page.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 256
CROP = 224
EDGE = (SIZE - CROP) // 2
LABELS = ("circles only", "with a square")

VALIDATION = 1_000_000  # seeds from here on are never trained on; the first 1,000 choose weights
TEST = VALIDATION + 1_000  # and those from here on have no say in that either

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes
    ----------
    image
        uint8 [256, 256]: 0 or 255.
    label
        1 if there is a square.
    mask
        bool [256, 256]: the square's pixels.
    box
        the square's x0, y0, x1, y1, the last two exclusive; None without a square.
    """

    image: np.ndarray
    label: int
    mask: np.ndarray
    box: Box | None


def picture(seed: int, label: int | None = None) -> Picture:
    """Draw one picture; with ``label`` given, one of that kind."""
    rng = np.random.default_rng(seed)
    sheet = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(sheet)
    for _ in range(rng.integers(0, 10)):
        side = int(rng.integers(10, 50))
        x, y = (int(v) for v in rng.integers(10, SIZE - 50, 2))
        draw.ellipse((x, y, x + side, y + side), fill=255)
    square = rng.integers(0, 2) == 1
    image, mask = np.array(sheet), np.zeros((SIZE, SIZE), bool)
    if not (square if label is None else label):
        return Picture(image, 0, mask, None)
    box = _place(rng, image)
    mask[box[1] : box[3], box[0] : box[2]] = True
    image[mask] = 255
    return Picture(image, 1, mask, box)


def _place(rng: np.random.Generator, image: np.ndarray) -> Box:
    """Find a place for a square inside the middle, at least half of it on black."""
    while True:
        side = int(rng.integers(10, 50))
        x, y = (int(v) for v in rng.integers(EDGE, min(SIZE - 50, EDGE + CROP - side), 2))
        box = (x, y, x + side + 1, y + side + 1)
        if image[y : box[3], x : box[2]].mean() <= 255 / 2:
            return box


def middle(plane: np.ndarray) -> np.ndarray:
    """Cut the 224 middle pixels out of a picture or a mask."""
    return plane[EDGE : EDGE + CROP, EDGE : EDGE + CROP]


def middle_box(box: Box) -> Box:
    """Tell where a square is in the middle that `middle` cuts out."""
    x0, y0, x1, y1 = (v - EDGE for v in box)
    return x0, y0, x1, y1


def batch(pictures: Iterable[Picture]) -> tuple[np.ndarray, np.ndarray]:
    """Make what a network takes: float32 [N, 3, 224, 224] in 0..1, and the labels int64 [N]."""
    drawn = list(pictures)
    gray = np.stack([middle(p.image) for p in drawn]).astype(np.float32) / 255
    return np.repeat(gray[:, None], 3, 1), np.array([p.label for p in drawn])


def main() -> None:
    """Draw a page of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sheet", type=Path, help="a picture file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    options = parser.parse_args()
    rows = [
        np.hstack(
            [
                np.pad(picture(options.seed + 4 * i + j).image, 2, constant_values=128)
                for j in range(4)
            ]
        )
        for i in range(4)
    ]
    Image.fromarray(np.vstack(rows)).save(options.sheet)


if __name__ == "__main__":
    main()
