"""Batches of painted retinas: every grade equally often, turned, mirrored, grained and shaken."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.dr.dataset import CELL, LONE, VALIDATION, Shard, shards
from models.dr.lesions import KINDS
from models.dr.network import GRADES, MEAN, STD, normalise

GRAIN = 12  # of 255 levels: the most noise that a camera may add
NEAR = 0.7  # so often a crop is chosen about a lesion, where there is one
HARD = KINDS.index("neovessels")  # the kind that was missed most where it alone makes the grade


class Batch(NamedTuple):
    """Images [N, 3, H, W], their grades [N], the kinds that make them, the lesions in their cells.

    Those are uint8 [N, H, W], a bit for every kind (`Shard`), and float [N, kinds, H / 16, W / 16].
    """

    images: Tensor
    grades: Tensor
    kinds: Tensor
    cells: Tensor


class Batches:
    """Draws images of every grade equally often from the shards that are on disk by now.

    Where there are lone eyes (`dataset.py`), this share of the images are. Of two of those of a
    grade, one that shows the kind that is `HARD` is taken.
    """

    def __init__(self, folder: Path, rng: np.random.Generator, lone: float = 0.5) -> None:
        self.folder, self.rng, self.lone = folder, rng, lone
        self.refresh()

    def refresh(self) -> None:
        """Notice shards painted in the meantime."""
        self.usual = shards(self.folder, range(LONE))
        self.sole = shards(self.folder, range(LONE, VALIDATION))
        if not self.usual:
            raise FileNotFoundError(
                f"{self.folder} has no retinas; run python -m models.dr.dataset {self.folder}"
            )

    def draw(self, count: int, crop: int | None = None) -> Batch:
        """Return so many whole retinas, or crops of this side, of every grade in its turn.

        A multiple of five begins with grade 0, any other number with any.
        """
        first = self.rng.integers(GRADES) if count % GRADES else 0
        grades = (np.arange(count) + first) % GRADES
        drawn = [self._draw(grade, crop) for grade in grades]
        images, kinds, cells = (np.stack(parts) for parts in zip(*drawn, strict=True))
        return Batch(
            self._shake(normalise(images)),
            torch.from_numpy(grades),
            torch.from_numpy(kinds),
            torch.from_numpy(cells).permute(0, 3, 1, 2).float(),
        )

    def ahead(self, count: int, crop: int | None = None) -> Generator[Batch]:
        """Draw batch after batch, each while the one before it is learned from; close it."""
        with ThreadPoolExecutor(1) as worker:
            coming = worker.submit(self.draw, count, crop)
            while True:
                batch, coming = coming.result(), worker.submit(self.draw, count, crop)
                yield batch

    def _draw(self, grade: int, crop: int | None) -> list[np.ndarray]:
        """Return one image, the kinds at its pixels and in its cells, turned and maybe mirrored."""
        lone = bool(self.sole) and self.rng.random() < self.lone
        painted = self.sole if lone else self.usual
        shard = painted[self.rng.integers(len(painted))]
        i, other = grade + GRADES * self.rng.integers(len(shard.images) // GRADES, size=2)
        if lone and shard.lesions[other, HARD].any():
            i = other
        image, kinds, cells = shard.images[i], shard.kinds[i], shard.lesions[i].transpose(1, 2, 0)
        if crop:
            row, column = self._place(shard, i, crop // CELL)
            y, x, n = row * CELL, column * CELL, crop // CELL
            image, kinds = (whole[y : y + crop, x : x + crop] for whole in (image, kinds))
            cells = cells[row : row + n, column : column + n]
        return self._turn(image, kinds, cells)

    def _place(self, shard: Shard, i: int, side: int) -> np.ndarray:
        """Choose the first cell of a crop, mostly about a lesion that makes the grade.

        Every kind that does so is as likely as the others, however many there are of each.
        """
        height, width = shard.lesions.shape[2:]
        bits = shard.kinds[i].reshape(height, CELL, width, CELL)
        bits = np.bitwise_or.reduce(bits, (1, 3))
        deciding = np.array([bits >> k & 1 for k in range(len(KINDS))], bool)
        free = np.array([height, width]) - side
        kinds = np.flatnonzero(deciding.any((1, 2)))
        if not kinds.size or self.rng.random() > NEAR:
            return self.rng.integers(free + 1)
        lesions = np.argwhere(deciding[self.rng.choice(kinds)])
        at = lesions[self.rng.integers(len(lesions))] - self.rng.integers(side, size=2)
        return np.clip(at, 0, free)

    def _turn(self, *planes: np.ndarray) -> list[np.ndarray]:
        """Turn by a multiple of 90 degrees and mirror, which moves no lesion between cells."""
        quarters, mirror = self.rng.integers(4), self.rng.integers(2)
        turned = (np.rot90(plane, quarters) for plane in planes)
        return [plane[:, ::-1] if mirror else plane for plane in turned]

    def _shake(self, x: Tensor) -> Tensor:
        """Add noise to two images in three, and change each one's brightness and contrast."""
        mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        for image in x:
            levels = self.rng.uniform(-GRAIN / 2, GRAIN)
            if levels > 0:
                image += levels / 255 * torch.randn_like(image) / deviation
                torch.clamp(image, -mean / deviation, (1 - mean) / deviation, out=image)
        brighter, steeper = self.rng.uniform((-0.15, 0.85), (0.15, 1.15), (len(x), 2)).T
        steeper, brighter = (
            torch.tensor(v, dtype=torch.float32).view(-1, 1, 1, 1) for v in (steeper, brighter)
        )
        return x * steeper + brighter
