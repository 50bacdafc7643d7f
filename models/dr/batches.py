"""Batches of painted retinas: every grade equally often, turned, mirrored and shaken."""

from pathlib import Path

import numpy as np
import torch
from dataset import CELL, VALIDATION, shards
from network import GRADES, normalise
from torch import Tensor

BATCH = 15


class Batches:
    """Draws images of every grade equally often from the shards that are on disk by now."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng = folder, rng
        self.refresh()

    def refresh(self) -> None:
        """Notice shards painted in the meantime."""
        self.shards = shards(self.folder, range(VALIDATION))
        if not self.shards:
            raise FileNotFoundError(f"{self.folder} has no retinas; run dataset.py {self.folder}")

    def draw(self, crop: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, their grades, and the lesions in their cells; crops or whole images."""
        images, lesions = [], []
        grades = np.arange(BATCH) % GRADES
        for grade in grades:
            painted, found = self.shards[self.rng.integers(len(self.shards))]
            i = grade + GRADES * self.rng.integers(len(painted) // GRADES)
            image, cells = painted[i], found[i].transpose(1, 2, 0)
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
        """Change the brightness and the contrast of each image."""
        brighter, steeper = self.rng.uniform((-0.15, 0.85), (0.15, 1.15), (len(x), 2)).T
        steeper, brighter = (
            torch.tensor(v, dtype=torch.float32).view(-1, 1, 1, 1) for v in (steeper, brighter)
        )
        return x * steeper + brighter
