"""Train the grading network on painted retinas, for as many minutes as there are.

The method is that of the network's authors: grades drawn equally often, turned and mirrored
images with their brightness and contrast shaken, Adam, cross-entropy and later also the loss
that is log(1 - kappa). One thing is added so that minutes suffice instead of weeks: while it
learns, a 1x1 convolution on top of rf125 must also tell which kinds of lesion each 16x16 cell
shows, which a painted retina knows and a photograph does not. That head is thrown away at the end.

`python train.py folder out.npz --minutes 60` goes on from out.pt where there is one.
"""

import argparse
import csv
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from batches import Batches
from dataset import CHOOSING
from examine import examine, summary
from kappa import kappa_loss
from lesions import KINDS
from network import Network, save
from torch import Tensor, nn
from torch.nn import functional

RATE = 1e-3
CROP = 256


@dataclass
class Training:
    """The network, the head that names lesions, and how far they have come."""

    out: Path
    network: Network = field(default_factory=Network)
    minutes: float = 0.0
    seen: int = 0
    epochs: int = 0
    best: float | None = None

    def __post_init__(self) -> None:
        self.namer = nn.Conv2d(64, len(KINDS), 1)
        # Most cells are healthy: begin by expecting that.
        nn.init.constant_(self.namer.bias, -4.0)
        self.network.to(memory_format=torch.channels_last)
        parameters = [*self.network.parameters(), *self.namer.parameters()]
        self.optimiser = torch.optim.Adam(parameters, RATE)

    def step(self, batch: tuple[Tensor, Tensor, Tensor], name_only: bool, ordinal: bool) -> Tensor:
        """Learn from one batch: only to name lesions, or also to grade."""
        x, grades, cells = batch
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.network.lesions(x)
            named = self.namer(features).float()
            scores = None if name_only else self.network.grade(self.network.rest(features)).float()
        loss = 10 * functional.binary_cross_entropy_with_logits(
            named, cells, pos_weight=torch.tensor(3.0)
        )
        if scores is not None:
            loss = loss + functional.cross_entropy(scores, grades)
            if ordinal:
                loss = loss + kappa_loss(scores, grades)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.seen += len(x)
        return loss.detach()

    def keep(self) -> None:
        """Write everything needed to go on later."""
        state = {
            "network": self.network.state_dict(),
            "namer": self.namer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": [self.minutes, self.seen, self.epochs, self.best],
        }
        unfinished = self.out.with_suffix(".part.pt")
        torch.save(state, unfinished)
        unfinished.replace(self.out.with_suffix(".pt"))

    def resume(self) -> None:
        """Go on from what `keep` wrote, if it wrote anything."""
        path = self.out.with_suffix(".pt")
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.namer.load_state_dict(state["namer"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.minutes, self.seen, self.epochs, self.best = state["progress"]


def report(training: Training, confusion: np.ndarray, loss: float) -> None:
    """Log an epoch, and keep the weights if they are the best so far."""
    found = summary(confusion)
    facts = {
        "validation": found,
        "epochs": training.epochs,
        "images_seen": training.seen,
        "minutes": round(training.minutes, 1),
    }
    log = training.out.with_suffix(".csv")
    columns = ["epochs", "minutes", "images_seen", "loss", "kappa", "accuracy"]
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        if not file.tell():
            writer.writeheader()
        writer.writerow(facts | found | {"loss": round(loss, 4)})
    if training.best is None or found["kappa"] > training.best:
        training.best = found["kappa"]
        save(training.network, training.out)
        unfinished = training.out.with_suffix(".part.json")
        unfinished.write_text(json.dumps(facts, indent=1))
        unfinished.replace(training.out.with_suffix(".json"))


def train(folder: Path, out: Path, minutes: float, batches: int) -> None:
    """Name lesions in crops for a sixth of the time, then grade whole images as well.

    The rate falls along half a cosine to nothing over the given minutes; the kappa loss joins for
    the last half. Minutes are of one core's work, examining included.
    """
    training = Training(out)
    training.resume()
    source = Batches(folder, np.random.default_rng(training.seen))
    while training.minutes < minutes:
        began, losses = time.process_time(), []
        source.refresh()
        name_only = training.minutes < minutes / 6
        for _ in range(4 * batches if name_only else batches):
            spent = training.minutes + (time.process_time() - began) / 60
            fall = math.cos(math.pi / 2 * min(1, spent / minutes)) ** 2
            for group in training.optimiser.param_groups:
                group["lr"] = RATE * (0.01 + 0.99 * fall)
            batch = source.draw(CROP if name_only else None)
            losses.append(training.step(batch, name_only, ordinal=spent > minutes / 2))
        training.epochs += 1
        loss = float(torch.stack(losses).mean())
        if not name_only:
            with torch.autocast("cpu", torch.bfloat16):
                confusion = examine(training.network, folder, CHOOSING)
        training.minutes += (time.process_time() - began) / 60
        if not name_only:
            report(training, confusion, loss)
        training.keep()
        print(f"{training.minutes:.1f} min, {training.seen} images, loss {loss:.4f}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("out", type=Path, help="the weights; the log and the state lie beside")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batches", type=int, default=40, help="in an epoch")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    train(options.folder, options.out, options.minutes, options.batches)


if __name__ == "__main__":
    main()
