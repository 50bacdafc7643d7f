"""Measure how the agreement falls as photographs get worse.

`python -m models.dr.stability folder dr.npz stability.json` blurs, grains, over- and underexposes
and turns test retinas by more and more, and grades them again (after the stability study in de la
Torre, "Deep learning for diabetic retinopathy", 2019, chapter 9).
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from models.dr.dataset import TESTING, shards
from models.dr.kappa import confuse, kappa
from models.dr.network import GRADES, Network, load, normalise

Change = Callable[[np.ndarray, float], np.ndarray]


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by a Gaussian of so many pixels."""
    return np.asarray(ndimage.gaussian_filter(image, (sigma, sigma, 0)))


def noise(image: np.ndarray, sigma: float) -> np.ndarray:
    """Add noise of so many of the 255 levels."""
    grain = np.random.default_rng(0).normal(0, sigma, image.shape)
    return (image + grain).clip(0, 255).astype(np.uint8)


def exposure(image: np.ndarray, stops: float) -> np.ndarray:
    """Let in twice the light with every stop."""
    linear = (image / 255) ** 2.2 * 2**stops
    return (255 * linear.clip(0, 1) ** (1 / 2.2)).round().astype(np.uint8)


def rotation(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn about the middle."""
    turned = Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC)
    return np.array(turned)


CHANGES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "blur": (blur, (0.5, 1, 1.5, 2, 3)),
    "noise": (noise, (2, 5, 10, 20)),
    "exposure": (exposure, (-2, -1, -0.5, 0.5, 1)),
    "rotation": (rotation, (10, 30, 45, 90, 180)),
}


@torch.no_grad()
def agreement(network: Network, images: list[np.ndarray], change: Change, by: float) -> float:
    """Return kappa on changed images; image i has grade i % 5."""
    changed = (normalise(change(image, by)[None]) for image in images)
    given = np.array([int(network(x).argmax()) for x in changed])
    return round(kappa(confuse(np.arange(len(given)) % GRADES, given)), 3)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = load(options.weights)
    held = [image for shard in shards(options.folder, TESTING["usual"]) for image in shard.images]
    images = [np.array(image) for image in held[: options.count]]
    found = {"count": len(images), "as they are": agreement(network, images, blur, 0)}
    for name, (change, steps) in CHANGES.items():
        found[name] = {str(by): agreement(network, images, change, by) for by in steps}
        print(name, found[name], flush=True)
    options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
