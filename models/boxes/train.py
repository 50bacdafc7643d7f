"""Train a DenseNet to tell pictures with a square from those without.

`python -m models.boxes.train 58k boxes58k.npz` draws pictures as it goes, never one twice, until
accuracy on 1,000 held-out pictures is high enough; it goes on from boxes58k.pt where there is one.

The recipe is the notebook's: Adam at 1e-3, cross-entropy weighted against the commoner class,
mirrored pictures, 224 pixels. What is judged and kept is the running mean of the weights over about
the last hundred batches, which does what a falling rate would.
"""

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.boxes.network import SHAPES, DenseNet, Shape
from models.boxes.picture import TEST, VALIDATION, batch, middle, picture

BATCH = 32
RATE = 1e-3
EPOCH = 2048


class Training:
    """A network, the running mean of its weights, and how far they have come."""

    def __init__(self, shape: Shape, out: Path, focus: float = 0.0) -> None:
        self.out, self.focus = out, focus
        self.network = DenseNet(shape).to(memory_format=torch.channels_last)
        self.mean = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True
        )
        self.optimiser = torch.optim.Adam(self.network.parameters(), RATE)
        self.seen, self.seconds = 0, 0.0

    def step(self) -> Tensor:
        """Learn from the next batch."""
        pictures = [picture(self.seen + i) for i in range(BATCH)]
        drawn, labels = batch(pictures)
        x, y = mirrored(ready(drawn), self.seen), torch.from_numpy(labels)
        weights = 1 - functional.one_hot(y, 2).float().mean(0)
        maps = self.network.maps(x)
        loss = functional.cross_entropy(self.network.score(maps), y, weights)
        if self.focus:
            masks = torch.from_numpy(np.stack([middle(p.mask) for p in pictures])[:, None]).float()
            missed = elsewhere(self.network.class_map(maps), mirrored(masks, self.seen))
            loss = loss + self.focus * missed
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.mean.update_parameters(self.network)
        self.seen += BATCH
        return loss.detach()

    def parts(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
        """Name what has a state."""
        return {"network": self.network, "mean": self.mean, "optimiser": self.optimiser}

    def keep(self) -> None:
        """Write the weights, and everything needed to go on later."""
        save(self.mean.module, self.out)
        state = {name: part.state_dict() for name, part in self.parts().items()}
        unfinished = self.out.with_suffix(".part.pt")
        torch.save({**state, "progress": [self.seen, self.seconds]}, unfinished)
        unfinished.replace(self.out.with_suffix(".pt"))

    def resume(self) -> None:
        """Go on from what `keep` wrote, if it wrote anything."""
        path = self.out.with_suffix(".pt")
        if path.exists():
            state = torch.load(path, weights_only=True)
            for name, part in self.parts().items():
                part.load_state_dict(state[name])
            self.seen, self.seconds = state["progress"]


def elsewhere(heat: Tensor, masks: Tensor) -> Tensor:
    """Measure how little the maps [N, H, W] point at the squares [N, 1, 224, 224].

    The softmax of a map over its positions is held, by cross-entropy, against how far the square
    covers each position, squared. Pictures without a square have no say.
    """
    truth = functional.adaptive_avg_pool2d(masks, heat.shape[1:]).flatten(1) ** 2
    area = truth.sum(1)
    shares = truth / area.clamp(min=1e-6)[:, None]
    missed = -(shares * heat.flatten(1).log_softmax(1)).sum(1)
    return missed.sum() / (area > 0).sum().clamp(min=1)


def ready(drawn: np.ndarray) -> Tensor:
    """Lay a batch out in memory as convolutions like it."""
    return torch.from_numpy(drawn).contiguous(memory_format=torch.channels_last)


def mirrored(x: Tensor, seed: int) -> Tensor:
    """Mirror a random half of the pictures left to right, and a random half top to bottom."""
    turns = np.random.default_rng(seed).integers(0, 2, (len(x), 2)) == 1
    for axis in (2, 3):
        chosen = torch.from_numpy(turns[:, axis - 2])
        x[chosen] = x[chosen].flip(axis)
    return x


@torch.no_grad()
def examine(network: torch.nn.Module, seeds: range) -> tuple[float, float]:
    """Return the loss and the accuracy on the pictures of these seeds."""
    network.eval()
    loss, right = 0.0, 0
    for first in range(0, len(seeds), 50):
        drawn, labels = batch(picture(seed) for seed in seeds[first : first + 50])
        scores, y = network(ready(drawn)), torch.from_numpy(labels)
        loss += float(functional.cross_entropy(scores, y, reduction="sum"))
        right += int((scores.argmax(1) == y).sum())
    network.train()
    return loss / len(seeds), right / len(seeds)


def save(network: torch.nn.Module, path: Path) -> None:
    """Write the weights as npz, first under another name so that nobody reads half a file."""
    weights = {
        key: value.numpy()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, **weights)
    unfinished.replace(path)


def train(shape: Shape, out: Path, enough: float, most: int, focus: float) -> None:
    """Learn until accuracy on the validation pictures is `enough`, or `most` have been seen."""
    training = Training(shape, out, focus)
    training.resume()
    log = out.with_suffix(".csv")
    while training.seen < most:
        began = time.process_time()
        learnt = torch.stack([training.step() for _ in range(EPOCH // BATCH)]).mean()
        loss, accuracy = examine(training.mean.module, range(VALIDATION, TEST))
        training.seconds += time.process_time() - began
        training.keep()
        row = [training.seen, round(training.seconds / 60, 1), round(float(learnt), 4)]
        row += [round(loss, 4), accuracy]
        with log.open("a", newline="") as file:
            writer = csv.writer(file)
            if not file.tell():
                writer.writerow(["pictures", "minutes", "loss", "validation loss", "accuracy"])
            writer.writerow(row)
        print(row, flush=True)
        if accuracy >= enough:
            return


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path, help="the weights; the log and the state lie beside")
    parser.add_argument("--enough", type=float, default=0.998, help="accuracy to stop at")
    parser.add_argument("--most", type=int, default=100_000, help="pictures to stop at")
    parser.add_argument("--pools", type=int, help="transitions that halve the map, of 3")
    parser.add_argument("--focus", type=float, default=0.0, help="how much pointing aside costs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = SHAPES[options.shape]
    if options.pools is not None:
        shape = replace(shape, pools=options.pools)
    train(shape, options.out, options.enough, options.most, options.focus)


if __name__ == "__main__":
    main()
