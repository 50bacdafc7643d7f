"""Examine trained weights on retinas that neither trained nor chose them.

`python -m models.dr.examine folder out.npz` prints how the network's grades agree with the true
ones, for usual eyes and for lone ones, and writes that into out.json beside the weights.
"""

import argparse
import json
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.dr.dataset import TESTING, shards
from models.dr.kappa import confuse, kappa
from models.dr.network import GRADES, Network, load, normalise


@torch.no_grad()
def examine(network: Network, folder: Path, seeds: Container[int]) -> np.ndarray:
    """Grade images never trained on; return how often each grade was given for each."""
    images = (image for shard in shards(folder, seeds) for image in shard.images)
    given = np.array([int(network(normalise(np.array(image)[None])).argmax()) for image in images])
    return confuse(np.arange(len(given)) % GRADES, given)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = load(options.weights)
    path = options.weights.with_suffix(".json")
    facts = json.loads(path.read_text()) if path.exists() else {}
    for recipe, seeds in TESTING.items():
        facts[recipe] = found = summary(examine(network, options.folder, seeds))
        print(f"{recipe}: kappa {found['kappa']} {found['interval']} on {found['n']} retinas;")
        print("true grades down, given ones across:", *found["confusion"], sep="\n")
    path.write_text(json.dumps(facts, indent=1))


def summary(confusion: np.ndarray) -> dict[str, Any]:
    """State agreement in numbers a file can hold, with a 95 % bootstrap interval of kappa."""
    n = int(confusion.sum())
    drawn = np.random.default_rng(0).multinomial(n, confusion.ravel() / n, 2000)
    kappas = [kappa(one.reshape(confusion.shape)) for one in drawn]
    return {
        "n": n,
        "kappa": round(kappa(confusion), 4),
        "interval": np.percentile(kappas, (2.5, 97.5)).round(4).tolist(),
        "accuracy": round(float(np.trace(confusion) / confusion.sum()), 4),
        "confusion": confusion.tolist(),
    }


if __name__ == "__main__":
    main()
