"""Retinas painted once and kept on disk, a hundred to a file, for training without waiting.

`python -m models.dr.dataset folder` paints what is not there yet; it can be stopped and started
again at any time, and training may begin while it runs.

A seed tells its grade and its recipe. Every second half million of seeds is of *lone* eyes: one
kind of lesion alone decides their grade, each kind in its turn, and those of the grades 0 and 1
show bright things that mean nothing. Otherwise exudates, say, never come without haemorrhages,
which make the grade already, and nothing teaches the network to look at them.
"""

import argparse
import functools
import itertools
import multiprocessing
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.dr.lesions import KINDS
from models.dr.retina import Retina, retina, signs

SHARD = 100
CELL = 16  # pixels between neighbouring positions of rf125
VALIDATION = 1_000_000  # seeds from here on are never trained on
LONE = 500_000
CHOOSING = (VALIDATION, VALIDATION + LONE)  # the shards that choose weights; the others test them
TESTING = {
    "usual": range(CHOOSING[0] + SHARD, CHOOSING[1]),
    "lone": range(CHOOSING[1] + SHARD, CHOOSING[1] + LONE),
}


class Shard(NamedTuple):
    """A file of retinas: image i has grade i % 5.

    Images [n, H, W, 3], the lesions in their cells [n, kinds, H / 16, W / 16], and the kinds that
    make the grade at each pixel [n, H, W], where bit k stands for `KINDS[k]`.
    """

    images: np.ndarray
    lesions: np.ndarray
    kinds: np.ndarray


def eye(seed: int, size: int = 640) -> Retina:
    """Paint the retina of a seed: seed % 5 is its grade."""
    grade = seed % 5
    kinds = signs(grade)
    lone = seed // LONE % 2 == 1
    return retina(seed, grade, size, sole=kinds[seed // 5 % len(kinds)] if lone else None)


def deciding_bits(one: Retina) -> np.ndarray:
    """Tell at every pixel which of the kinds that make the grade are there: bit k is `KINDS[k]`."""
    bits = [one.masks[kind].astype(np.uint8) << KINDS.index(kind) for kind in one.deciding_kinds]
    return np.bitwise_or.reduce(bits)


def cells(masks: dict[str, np.ndarray]) -> np.ndarray:
    """Tell for every kind of lesion which 16x16 cells of the image it touches."""
    whole = np.stack([masks[kind] for kind in KINDS])
    kinds, height, width = whole.shape
    grid = whole.reshape(kinds, height // CELL, CELL, width // CELL, CELL)
    return grid.any((2, 4))


def paint_shard(folder: Path, first: int, size: int = 640) -> None:
    """Paint one file of images, a fifth of every grade, and two about their lesions."""
    eyes = [eye(first + i, size) for i in range(SHARD)]
    np.save(folder / f"kinds_{first}.npy", np.stack([deciding_bits(one) for one in eyes]))
    np.save(folder / f"lesions_{first}.npy", np.stack([cells(one.masks) for one in eyes]))
    # The images come last: a shard exists once they do.
    unfinished = folder / f"images_{first}.part.npy"
    np.save(unfinished, np.stack([one.image for one in eyes]))
    unfinished.replace(folder / f"images_{first}.npy")


def shards(folder: Path, seeds: Container[int]) -> list[Shard]:
    """Map the shards that begin with one of these seeds, without reading what is on disk."""
    firsts = [int(path.stem.split("_")[1]) for path in folder.glob("images_*[0-9].npy")]
    return [
        Shard(*(np.load(folder / f"{part}_{first}.npy", mmap_mode="r") for part in Shard._fields))
        for first in sorted(firsts)
        if first in seeds
    ]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1500, help="usual eyes to learn from")
    parser.add_argument("--lone", type=int, default=1500, help="eyes with a sole sign besides")
    parser.add_argument("--held-out", type=int, default=400, help="of either recipe")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    recipes = []
    for recipe, count in ((0, options.count), (LONE, options.lone)):
        painted = [recipe + first for first in range(0, count, SHARD)]
        # One training shard, then the held-out ones, then the rest: training can begin early.
        held = VALIDATION + recipe
        painted[1:1] = range(held, held + options.held_out, SHARD) if count else ()
        recipes.append(painted)
    # And it meets both recipes from the start.
    firsts = [f for turn in itertools.zip_longest(*recipes) for f in turn if f is not None]
    missing = [
        first
        for first in firsts
        if not all((options.folder / f"{part}_{first}.npy").exists() for part in Shard._fields)
    ]
    with multiprocessing.Pool(options.processes) as painters:
        painters.map(functools.partial(paint_shard, options.folder), missing, chunksize=1)


if __name__ == "__main__":
    main()
