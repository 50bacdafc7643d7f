"""Retinas painted once and kept on disk, a hundred to a file, for training without waiting.

`python dataset.py folder --count 4000` paints what is not there yet; it can be stopped and started
again at any time, and training may begin while it runs.
"""

import argparse
from pathlib import Path

import numpy as np
from lesions import KINDS
from retina import retina

SHARD = 100
CELL = 16  # pixels between neighbouring positions of rf125
VALIDATION = 1_000_000  # seeds from here on are never trained on; the first shard chooses weights
TEST = VALIDATION + SHARD  # and those from here on have no say in that either


def cells(masks: dict[str, np.ndarray]) -> np.ndarray:
    """Tell for every kind of lesion which 16x16 cells of the image it touches."""
    whole = np.stack([masks[kind] for kind in KINDS])
    kinds, height, width = whole.shape
    grid = whole.reshape(kinds, height // CELL, CELL, width // CELL, CELL)
    return grid.any((2, 4))


def paint_shard(folder: Path, first: int, size: int = 640) -> None:
    """Paint one file of images, a fifth of every grade, and two of their lesions."""
    eyes = [retina(first + i, i % 5, size) for i in range(SHARD)]
    masks = [np.packbits(np.any(list(eye.masks.values()), 0), axis=1) for eye in eyes]
    np.save(folder / f"masks_{first}.npy", np.stack(masks))
    np.save(folder / f"lesions_{first}.npy", np.stack([cells(eye.masks) for eye in eyes]))
    # The images come last: a shard exists once they do.
    unfinished = folder / f"images_{first}.part.npy"
    np.save(unfinished, np.stack([eye.image for eye in eyes]))
    unfinished.replace(folder / f"images_{first}.npy")


def shards(folder: Path, seeds: range) -> list[tuple[np.ndarray, np.ndarray]]:
    """Map the (images, lesions) on disk without reading them; image i of a file has grade i % 5."""
    firsts = [int(path.stem.split("_")[1]) for path in folder.glob("images_*[0-9].npy")]
    return [
        (
            np.load(folder / f"images_{first}.npy", mmap_mode="r"),
            np.load(folder / f"lesions_{first}.npy", mmap_mode="r"),
        )
        for first in sorted(firsts)
        if first in seeds
    ]


def masks(folder: Path, seeds: range) -> list[np.ndarray]:
    """Map the pixels of all lesions of the same shards, eight to a byte along each row."""
    firsts = [int(path.stem.split("_")[1]) for path in folder.glob("images_*[0-9].npy")]
    return [
        np.load(folder / f"masks_{first}.npy", mmap_mode="r")
        for first in sorted(firsts)
        if first in seeds
    ]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=400)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    firsts = [*range(0, options.count, SHARD)]
    # One training shard, then the held-out ones, then the rest: training can begin early.
    firsts[1:1] = range(VALIDATION, VALIDATION + options.held_out, SHARD)
    for first in firsts:
        if not (options.folder / f"images_{first}.npy").exists():
            paint_shard(options.folder, first)


if __name__ == "__main__":
    main()
