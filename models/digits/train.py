"""Train the three digit networks and write them as ONNX files.

`python -m models.digits.train models` takes about a minute. Beside the networks it writes
`digits.npz`: the held-out digits, which judge them, and the mean image of each digit trained on.

The recipe is the notebook's: stochastic gradient descent with momentum 0.9 and batches of 32, from
a rate of 0.01, which falls to a tenth twice.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.digits.data import Digits, means, ready, split
from models.digits.networks import KINDS, Kind
from models.draft import Draft, wilson

BATCH = 32
PREPROCESS = {"size": [8, 8], "mode": "resize", "channels": "gray", "interpolation": "box"}
NOTE = (
    "Trained on scikit-learn's handwritten digits, 8x8 pixels, white ink on black "
    "(models/digits.md)."
)


def train(kind: Kind, digits: Digits, seed: int = 0) -> nn.Sequential:
    """Learn the digits; the same network for the same seed, on the same kind of processor."""
    torch.manual_seed(seed)
    network = kind.make()
    x, y = torch.from_numpy(ready(digits.images)), torch.from_numpy(digits.labels)
    optimiser = torch.optim.SGD(network.parameters(), kind.rate, momentum=0.9)
    falls = torch.optim.lr_scheduler.StepLR(optimiser, max(1, kind.epochs * 2 // 5))
    for _ in range(kind.epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = functional.cross_entropy(network(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        falls.step()
    return network.eval()


@torch.no_grad()
def right(network: nn.Module, digits: Digits) -> int:
    """Count the digits that it names rightly."""
    given = network(torch.from_numpy(ready(digits.images))).argmax(1).numpy()
    return int((given == digits.labels).sum())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the files go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    taught, held_out = split()
    np.savez_compressed(
        options.folder / "digits.npz",
        images=held_out.images,
        labels=held_out.labels.astype(np.uint8),
        means=means(taught),
    )
    for name, kind in KINDS.items():
        network = train(kind, taught)
        draft = Draft(name, {k: v.numpy() for k, v in network.state_dict().items()})
        draft.write(
            options.folder / f"{name}.onnx",
            (1, 8, 8),
            kind.draw(draft),
            labels=[str(digit) for digit in range(10)],
            preprocess=PREPROCESS,
            note=NOTE,
        )
        count, n = right(network, held_out), len(held_out.labels)
        low, high = wilson(count, n)
        parameters = sum(p.numel() for p in network.parameters())
        print(f"{name}: {parameters:,} parameters, {count} of {n} held-out digits,", end=" ")
        print(
            f"{count / n:.3f} ({low:.3f} to {high:.3f}); trained on: "
            f"{right(network, taught) / len(taught.labels):.3f}"
        )


if __name__ == "__main__":
    main()
