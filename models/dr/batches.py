"""Batches of painted retinas: every grade equally often, turned, mirrored, grained and shaken."""

from pathlib import Path

import numpy as np
import torch
from dataset import CELL, LONE, VALIDATION, Shard, shards
from network import GRADES, MEAN, STD, normalise
from torch import Tensor

BATCH = 15
GRAIN = 12  # of 255 levels: the most noise that a camera may add


class Batches:
    """Draws images of every grade equally often from the shards that are on disk by now.

    Where there are lone eyes (`dataset.py`), this share of the images are.
    """

    def __init__(self, folder: Path, rng: np.random.Generator, lone: float = 0.5) -> None:
        self.folder, self.rng, self.lone = folder, rng, lone
        self.refresh()

    def refresh(self) -> None:
        """Notice shards painted in the meantime."""
        self.usual = shards(self.folder, range(LONE))
        self.sole = shards(self.folder, range(LONE, VALIDATION))
        if not self.usual:
            raise FileNotFoundError(f"{self.folder} has no retinas; run dataset.py {self.folder}")

    def pick(self, grade: int) -> tuple[Shard, int]:
        """Choose an image of a grade: the file it is in, and which one it is."""
        painted = self.sole if self.sole and self.rng.random() < self.lone else self.usual
        shard = painted[self.rng.integers(len(painted))]
        return shard, grade + GRADES * int(self.rng.integers(len(shard.images) // GRADES))

    def draw(self, crop: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, their grades, and the lesions in their cells; crops or whole images."""
        images, lesions = [], []
        grades = np.arange(BATCH) % GRADES
        for grade in grades:
            shard, i = self.pick(grade)
            image, cells = shard.images[i], shard.lesions[i].transpose(1, 2, 0)
            if crop:
                y, x = self.rng.integers((image.shape[0] - crop) // CELL + 1, size=2)
                n = crop // CELL
                image = image[y * CELL :, x * CELL :][:crop, :crop]
                cells = cells[y : y + n, x : x + n]
            image, cells = self.turn(image, cells)
            images.append(image)
            lesions.append(cells)
        x = self.shake(normalise(np.stack(images)))
        cells = torch.from_numpy(np.stack(lesions)).permute(0, 3, 1, 2).float()
        return x, torch.from_numpy(grades), cells

    def turn(self, *planes: np.ndarray) -> list[np.ndarray]:
        """Turn by a multiple of 90 degrees and mirror, which moves no lesion between cells."""
        quarters, mirror = self.rng.integers(4), self.rng.integers(2)
        turned = (np.rot90(plane, quarters) for plane in planes)
        return [plane[:, ::-1] if mirror else plane for plane in turned]

    def shake(self, x: Tensor) -> Tensor:
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
