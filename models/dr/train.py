"""Train the grading network on painted retinas: to name the lesions it sees, then to grade by them.

1. The ten layers up to rf125 learn on crops which kinds of lesion each 16x16 cell shows, which a
   painted retina knows and a photograph does not. The 1x1 convolution that names them is no part
   of the weights.
2. These layers stay. What they make of whole retinas, each turned and shaken, is computed once and
   kept on disk; on top of that the layers above learn to grade, by cross-entropy and, in the second
   half, also the loss that is log(1 - kappa).

Grades are drawn equally often, and Adam learns, as with the network's authors. Both parts go by
what they have seen, not by the clock: once all retinas are painted, a slow machine arrives where a
fast one does. `focus.py` then trains all layers together.

`python -m models.dr.train folder out.npz` goes on from out.pt where there is one, as long as it is
asked for the same.
"""

import argparse
import csv
import itertools
import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.dr.batches import Batch, Batches
from models.dr.dataset import CELL, CHOOSING, shards
from models.dr.examine import summary
from models.dr.kappa import confuse, kappa_loss
from models.dr.lesions import KINDS
from models.dr.network import GRADES, Network, normalise, save
from models.dr.processor import keep_memory, lay_fast, run_fast

RATE = 1e-3
CROP, CROPS = 256, 16  # the side of a crop, and how many in a batch
WHOLE = 5  # whole retinas looked at together
GRADED = 30  # retinas in a batch of grading
EPOCH = 50  # batches of crops between two lines of the log,
LOGGED = 200  # and whole retinas
SETTLE = 100  # whole retinas from which the normalisation takes its statistics


@dataclass
class Training:
    """The network, the head that names lesions, and how far they have come."""

    out: Path
    network: Network = field(default_factory=Network)
    named: int = 0
    drawn: int = 0
    passes: int = 0
    minutes: float = 0.0
    best: float = -1.0

    def __post_init__(self) -> None:
        self.namer = nn.Conv2d(64, len(KINDS), 1)
        # Most cells are healthy: begin by expecting that.
        nn.init.constant_(self.namer.bias, -4.0)
        lower, upper = self.network.parts()
        self.naming = torch.optim.Adam([*lower, *self.namer.parameters()], RATE)
        self.grading = torch.optim.Adam(upper, RATE)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return all there is to train."""
        yield from self.network.parameters()
        yield from self.namer.parameters()

    def misnaming(self, batch: Batch) -> Tensor:
        """Return the loss of naming the lesions in the cells of a batch."""
        with run_fast():
            named = self.namer(self.network.lesions(lay_fast(batch.images))).float()
        return naming_loss(named, batch.cells)

    def keep(self) -> None:
        """Write everything needed to go on later."""
        state = {
            "network": self.network.state_dict(),
            "namer": self.namer.state_dict(),
            "naming": self.naming.state_dict(),
            "grading": self.grading.state_dict(),
            "progress": [self.named, self.drawn, self.passes, self.minutes, self.best],
        }
        write(state, self.out.with_suffix(".pt"))

    def resume(self) -> None:
        """Go on from what `keep` wrote, if it wrote anything."""
        path = self.out.with_suffix(".pt")
        if path.exists():
            state = torch.load(path, weights_only=True)
            for part in ("network", "namer", "naming", "grading"):
                getattr(self, part).load_state_dict(state[part])
            self.named, self.drawn, self.passes, self.minutes, self.best = state["progress"]

    def report(self, **facts: float | None) -> None:
        """Keep all of it, and add a line to the log."""
        self.keep()
        columns = ["minutes", "crops", "retinas", "passes", "loss", "kappa", "accuracy"]
        done = {"minutes": round(self.minutes, 1), "crops": self.named, "retinas": self.drawn}
        line = done | {"passes": self.passes} | facts
        with self.out.with_suffix(".csv").open("a", newline="") as file:
            writer = csv.DictWriter(file, columns)
            if not file.tell():
                writer.writeheader()
            writer.writerow(line)
        print(", ".join(f"{key} {value}" for key, value in line.items()), flush=True)


def write(state: dict[str, Any], path: Path) -> None:
    """Write a state, first under another name so that nobody reads half a file."""
    unfinished = path.with_suffix(".part.pt")
    torch.save(state, unfinished)
    unfinished.replace(path)


def naming_loss(named: Tensor, cells: Tensor) -> Tensor:
    """Weigh what is missed three times what is imagined: most cells are healthy."""
    weight = torch.tensor(3.0)
    return 10 * functional.binary_cross_entropy_with_logits(named, cells, pos_weight=weight)


def grading_loss(scores: Tensor, grades: Tensor) -> Tensor:
    """Take the cross-entropy, with grades that are all but certain."""
    return functional.cross_entropy(scores, grades, label_smoothing=0.02)


def fall(past: float, least: float = 0.01) -> float:
    """Return what part of the rate is left after this part of the way: half a cosine."""
    return least + (1 - least) * math.cos(math.pi / 2 * min(past, 1)) ** 2


def learn_to_name(training: Training, source: Batches, crops: int) -> None:
    """Let the layers up to rf125 name lesions in so many crops."""
    with closing(source.ahead(CROPS, CROP)) as batches:
        while training.named < crops:
            began, losses = time.perf_counter(), []
            source.refresh()
            for batch in itertools.islice(batches, EPOCH):
                training.naming.param_groups[0]["lr"] = RATE * fall(training.named / crops)
                loss = training.misnaming(batch)
                training.naming.zero_grad()
                loss.backward()
                training.naming.step()
                training.named += CROPS
                losses.append(float(loss.detach()))
            training.minutes += (time.perf_counter() - began) / 60
            training.report(loss=round(float(np.mean(losses)), 4))


def fit_namer(training: Training, source: Batches, batches: int = 80) -> None:
    """Let the head alone learn to name lesions, above layers that stay as they are."""
    optimiser = torch.optim.Adam(training.namer.parameters())
    for done in range(batches):
        optimiser.param_groups[0]["lr"] = 10 * RATE * fall(done / batches)
        batch = source.draw(CROPS, CROP)
        loss = naming_loss(training.namer(look(training.network, batch.images)), batch.cells)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def settle(training: Training, source: Batches) -> None:
    """Let the normalisation up to rf125 take its statistics from whole retinas, not from crops."""
    norms = [m for m in training.network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    training.network.train()
    for _ in range(SETTLE // WHOLE):
        look(training.network, source.draw(WHOLE).images)
    for norm in norms:
        norm.momentum = 0.1


@torch.no_grad()
def look(network: Network, images: Tensor) -> Tensor:
    """Return what rf125 makes of images."""
    with run_fast():
        return network.lesions(lay_fast(images)).float()


def collect(training: Training, source: Batches, retinas: int) -> np.ndarray:
    """Keep on disk what rf125 makes of so many retinas: float16 [n, 64, H / 16, W / 16].

    Retina i has grade i % 5.
    """
    source.refresh()
    path = training.out.with_suffix(".features.npy")
    side = source.usual[0].images.shape[1] // CELL
    if training.drawn == 0:
        settle(training, source)
        shape = (retinas, 64, side, side)
        np.lib.format.open_memmap(path, "w+", np.float16, shape)
    kept = np.lib.format.open_memmap(path, "r+")
    if len(kept) != retinas:
        raise SystemExit(f"{path} is of {len(kept)} retinas; ask for as many, or begin another")
    training.network.eval()
    with closing(source.ahead(WHOLE)) as batches:
        while training.drawn < retinas:
            began = time.perf_counter()
            for batch in itertools.islice(batches, min(LOGGED, retinas - training.drawn) // WHOLE):
                kept[training.drawn : training.drawn + WHOLE] = look(training.network, batch.images)
                training.drawn += WHOLE
            training.minutes += (time.perf_counter() - began) / 60
            kept.flush()
            training.report()
    return kept


def held_out(network: Network, folder: Path) -> Tensor:
    """Return what rf125 makes of the retinas that choose weights: retina i has grade i % 5."""
    network.eval()
    images = [image for shard in shards(folder, CHOOSING) for image in shard.images]
    groups = [np.stack(images[i : i + WHOLE]) for i in range(0, len(images), WHOLE)]
    return torch.cat([look(network, normalise(group)) for group in groups])


def learn_to_grade(training: Training, kept: np.ndarray, chosen: Tensor, passes: int) -> None:
    """Let the layers above rf125 grade what it made of the retinas, so many times each."""
    network, rng = training.network, np.random.default_rng(training.passes)
    while training.passes < passes:
        began, losses = time.perf_counter(), []
        # The layers below are not run: what they think of training does not matter.
        network.train()
        for indices in batches_of(len(kept), rng):
            past = (training.passes + len(losses) * GRADED / len(kept)) / passes
            training.grading.param_groups[0]["lr"] = RATE * fall(past)
            grades = torch.from_numpy(indices % GRADES)
            scores = score(network, torch.from_numpy(kept[indices]).float())
            loss = grading_loss(scores, grades)
            if past > 0.5:
                loss = loss + kappa_loss(scores, grades)
            training.grading.zero_grad()
            loss.backward()
            training.grading.step()
            losses.append(float(loss.detach()))
        training.passes += 1
        training.minutes += (time.perf_counter() - began) / 60
        found = agreement(network, chosen)
        if found["kappa"] > training.best:
            training.best = found["kappa"]
            save(network, training.out)
            training.out.with_suffix(".json").write_text(json.dumps({"chosen by": found}, indent=1))
        loss = round(float(np.mean(losses)), 4)
        training.report(loss=loss, kappa=found["kappa"], accuracy=found["accuracy"])


def batches_of(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Deal out indices, every grade equally often in each batch."""
    order = np.stack([rng.permutation(count // GRADES) * GRADES + g for g in range(GRADES)], 1)
    for first in range(0, len(order), GRADED // GRADES):
        yield np.sort(order[first : first + GRADED // GRADES].ravel())


def score(network: Network, features: Tensor) -> Tensor:
    """Score the grades of what rf125 makes of retinas."""
    with run_fast():
        return network.grade(network.rest(lay_fast(features))).float()


@torch.no_grad()
def agreement(network: Network, features: Tensor) -> dict[str, Any]:
    """Compare grades given with true ones."""
    network.eval()
    given = score(network, features).argmax(1).numpy()
    return summary(confuse(np.arange(len(given)) % GRADES, given))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument(
        "out",
        type=Path,
        help="the weights; log, state and 0.6 GB of features lie beside",
    )
    parser.add_argument("--crops", type=int, default=20000, help="to name lesions in")
    parser.add_argument("--retinas", type=int, default=3000, help="whole ones, to grade")
    parser.add_argument("--passes", type=int, default=20, help="over the whole ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.retinas % GRADES:
        parser.error("--retinas must be a multiple of 5: every grade as often as the others")
    keep_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    training = Training(options.out)
    training.resume()
    if training.drawn and training.named < options.crops:
        parser.error(f"{options.out} has learned to name lesions for good; for more, begin another")
    source = Batches(options.folder, np.random.default_rng([training.named, training.drawn]))
    learn_to_name(training, source, options.crops)
    kept = collect(training, source, options.retinas)
    chosen = held_out(training.network, options.folder)
    learn_to_grade(training, kept, chosen, options.passes)


if __name__ == "__main__":
    main()
