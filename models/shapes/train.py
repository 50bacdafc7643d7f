"""Train the network of shapes and write it as an ONNX file.

`python -m models.shapes.train shapes.npz models/shapes.onnx` takes some ten minutes of one
processor core; pictures are drawn as it goes, none twice. Stopped, it goes on from shapes.pt. Adam,
whose rate falls along half a cosine to nothing; binary cross-entropy for each kind. Beside that a
1x1 convolution, thrown away at the end, must tell which kinds each position of the last maps shows:
from the scores alone the network learned more slowly.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from models.draft import Draft, wilson
from models.shapes.network import WIDTHS, Network, draw
from models.shapes.picture import KINDS, SIZE, TEST, VALIDATION, Picture, batch, picture

BATCH = 32
RATE = 2e-3
EPOCH = 64  # batches
PREPROCESS = {"size": [SIZE, SIZE], "mode": "resize"}
NOTE = "Trained on drawn shapes only (models/shapes.md)."


class Training:
    """The network, the head that names shapes where they are, and how far they have come."""

    def __init__(self, out: Path) -> None:
        self.state = out.with_suffix(".pt")
        self.network = Network().to(memory_format=torch.channels_last)
        self.namer = torch.nn.Conv2d(WIDTHS[-1], len(KINDS), 1)
        # The mean over the picture thins what a small shape says: the line behind it grows faster.
        layers = [p for n, p in self.network.named_parameters() if not n.startswith("kinds.")]
        parts = [[*layers, *self.namer.parameters()], [*self.network.kinds.parameters()]]
        self.optimiser = torch.optim.Adam([{"params": part} for part in parts])
        self.seen = 0
        if self.state.exists():
            held = torch.load(self.state, weights_only=True)
            self.seen = held.pop("seen")
            for name, part in self.parts().items():
                part.load_state_dict(held[name])

    def parts(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
        """Name what has a state."""
        return {"network": self.network, "namer": self.namer, "optimiser": self.optimiser}

    def keep(self) -> None:
        """Write everything needed to go on later."""
        held = {name: part.state_dict() for name, part in self.parts().items()}
        torch.save({**held, "seen": self.seen}, self.state)

    def step(self, rate: float) -> float:
        """Learn from the next batch, at this rate; return the loss of the scores."""
        for group, times in zip(self.optimiser.param_groups, (1, 10), strict=True):
            group["lr"] = times * rate
        pictures = [picture(self.seen + i) for i in range(BATCH)]
        x, y = (torch.from_numpy(v) for v in batch(pictures))
        maps = self.network.maps(x.contiguous(memory_format=torch.channels_last))
        named = functional.binary_cross_entropy_with_logits(
            self.namer(maps), cells(pictures, maps.shape[2:]), pos_weight=torch.tensor(5.0)
        )
        loss = functional.binary_cross_entropy_with_logits(self.network.score(maps), y)
        self.optimiser.zero_grad()
        (loss + named).backward()
        self.optimiser.step()
        self.seen += BATCH
        return loss.item()


def cells(pictures: list[Picture], size: torch.Size) -> torch.Tensor:
    """Tell how far each position of the last maps is covered by each kind: [N, 5, h, w]."""
    masks = np.stack([[p.mask(kind) for kind in KINDS] for p in pictures])
    return functional.adaptive_avg_pool2d(torch.from_numpy(masks).float(), tuple(size))


def train(out: Path, most: int) -> Network:
    """Learn from `most` pictures."""
    training = Training(out)
    while training.seen < most:
        rates = [
            RATE * math.cos(math.pi / 2 * (training.seen + i * BATCH) / most) ** 2
            for i in range(EPOCH)
        ]
        loss = np.mean([training.step(rate) for rate in rates])
        training.keep()
        found = summary(*examine(training.network, range(VALIDATION, TEST)))
        print(f"{training.seen} pictures, loss {loss:.4f}, F1 {found['f1']}", flush=True)
    return training.network


@torch.no_grad()
def examine(network: Network, seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Return what is given and what is true, bool [N, 5] both, for the pictures of these seeds."""
    network.eval()
    given, true = [], []
    for first in range(0, len(seeds), 50):
        x, labels = batch(picture(seed) for seed in seeds[first : first + 50])
        given.append(network(torch.from_numpy(x)).numpy() > 0)
        true.append(labels > 0)
    network.train()
    return np.concatenate(given), np.concatenate(true)


def summary(given: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Return F1 of each kind, and how often all five are right, with its interval."""
    both, either = (given & true).sum(0), given.sum(0) + true.sum(0)
    right = int((given == true).all(1).sum())
    return {
        "f1": {k: round(float(2 * b / e), 4) for k, b, e in zip(KINDS, both, either, strict=True)},
        "all_right": round(right / len(true), 4),
        "interval": [round(v, 4) for v in wilson(right, len(true))],
        "n": len(true),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="as npz; the state to go on from lies beside")
    parser.add_argument("out", type=Path, help="the ONNX file")
    parser.add_argument("--most", type=int, default=65_536, help="pictures to learn from")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = train(options.weights, options.most)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    np.savez(options.weights, **weights)
    draft = Draft(options.out.stem, weights)
    draft.write(
        options.out,
        (3, SIZE, SIZE),
        draw(draft),
        output="probabilities",
        labels=KINDS,
        preprocess=PREPROCESS,
        note=NOTE,
    )
    found = summary(*examine(network, range(TEST, TEST + 1000)))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
