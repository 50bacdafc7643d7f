"""Examine trained weights on retinas that neither trained nor chose them.

`python examine.py folder out.npz` prints how the network's grades agree with the true ones, and
writes that into out.json beside the weights.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dataset import TEST, shards
from kappa import kappa
from network import GRADES, Network, load, normalise


@torch.no_grad()
def examine(network: Network, folder: Path, seeds: range) -> np.ndarray:
    """Grade images never trained on, in full precision: true grades down, given ones across."""
    network.eval()
    confusion = np.zeros((GRADES, GRADES), int)
    images = (image for painted, _ in shards(folder, seeds) for image in painted)
    for i, image in enumerate(images):
        x = normalise(np.array(image)[None])
        given = network(x.contiguous(memory_format=torch.channels_last)).argmax()
        confusion[i % GRADES, int(given)] += 1
    network.train()
    return confusion


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    confusion = examine(load(options.weights), options.folder, range(TEST, sys.maxsize))
    path = options.weights.with_suffix(".json")
    facts = json.loads(path.read_text()) if path.exists() else {}
    facts |= summary(confusion, "test")
    path.write_text(json.dumps(facts, indent=1))
    print(f"kappa {facts['kappa']} on {facts['n']} retinas; true grades down, given ones across:")
    print(confusion)


def summary(confusion: np.ndarray, images: str) -> dict[str, Any]:
    """State agreement in numbers a file can hold."""
    return {
        "images": images,
        "n": int(confusion.sum()),
        "kappa": round(kappa(confusion), 4),
        "accuracy": round(float(np.trace(confusion) / confusion.sum()), 4),
        "confusion": confusion.tolist(),
    }


if __name__ == "__main__":
    main()
