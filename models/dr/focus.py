"""Teach trained weights to be right for the right reasons: what they see must be the lesions.

Ross, Hughes and Doshi-Velez, "Right for the right reasons" (IJCAI 2017): beside the loss, the
share of |input * gradient| that lies outside the lesions is made small, by differentiating the
gradient once more. Retinas whose masks are known make that possible. All layers learn: from crops,
which are cheap, and from whole retinas, which have a grade. The normalisation keeps the statistics
that `train.py` left.

`python -m models.dr.focus folder dr.npz focused.npz` begins with these weights and the head that
names lesions, which `train.py` left in dr.pt, and keeps the weights, a running mean of them, that
grade and localise best on validation retinas, usual and lone ones (`dataset.py`). Weights alone
will do, those of an ONNX file too: then the head is fitted to them first. Stopped, it goes on from
focused.pt. Every process does as much, so two take half the steps that one would need.
"""

import argparse
import json
import math
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.dr.batches import Batch, Batches
from models.dr.dataset import CHOOSING, SHARD, shards
from models.dr.kappa import confuse, kappa
from models.dr.lesions import DECIDING, KINDS
from models.dr.network import GRADES, Network, load, normalise, save
from models.dr.processor import keep_memory, lay_fast, run_fast
from models.dr.reasons import Weights, along, astray, run
from models.dr.train import (
    CROP,
    Training,
    fall,
    fit_namer,
    grading_loss,
    look,
    naming_loss,
    score,
    write,
)
from models.dr.truth import WIDER, measure, wider

CROPS, WHOLE = 6, 3  # in one step of one process
GRADED = 5  # more retinas in a step, only to grade,
REUSE = 8  # and for how many steps what rf125 made of them is used
KEPT = 0.98  # of the mean of the weights in a step; what is kept and looked at is that mean
LONELY = 0.6  # of the images are of lone eyes
FIRM = 2 / 3  # of the way is for the maps above all; on the rest grading is made firm
LOOK = 100  # steps between two looks at the validation retinas
# Which kinds [grades, kinds] make a grade by themselves.
MAKES = torch.tensor([[kind in DECIDING.get(g, ()) for kind in KINDS] for g in range(GRADES)])


@dataclass(frozen=True)
class Aims:
    """How fast to learn, and how the aims weigh beside the naming of lesions."""

    rate: float = 1e-3
    penalty: float = 2.0  # weight of the penalty on explanations
    pointing: float = 4.0  # weight of `mispointing` in it
    margin: float = 1.5  # factor there on what lies outside the lesions
    fairness: float = 4.0  # weight of `unfair` in it
    grading: float = 6.0  # weight of the cross-entropy
    firmness: float = 5.0  # times as much of it from `FIRM` on

    @property
    def weights(self) -> Weights:
        """Those within the penalty."""
        return Weights(self.pointing, self.margin, self.fairness)

    def after(self, past: float) -> "Aims":
        """Return what counts once this part of the way lies behind."""
        rate = self.rate * fall(past, least=0.02)
        firmer = self.firmness if past >= FIRM else 1.0
        return replace(self, rate=rate, grading=firmer * self.grading)


def learn(training: Training, aims: Aims, batch: Batch, whole: bool) -> tuple[Tensor, float]:
    """Return a loss to differentiate, and how much goes `astray`.

    All images name lesions and pay for their explanation; whole retinas are also graded.
    """
    network, grades = training.network, batch.grades
    x = lay_fast(batch.images).requires_grad_()
    with run_fast():
        scores, features, states = run(network, x)
        named = training.namer(features).float()
    scores = scores.float()
    chosen = scores.gather(1, grades[:, None]).sum()
    (slope,) = torch.autograd.grad(chosen, x, retain_graph=True)
    slope = slope.detach().requires_grad_()
    attribution = (x.detach() * slope).sum(1, keepdim=True)
    off = astray(attribution, widened(batch.kinds), MAKES[grades], aims.weights)
    (way,) = torch.autograd.grad(off, slope)
    with run_fast():
        change = along(network, way, states).float()
    loss = aims.penalty * change.gather(1, grades[:, None]).sum()
    loss = loss + naming_loss(named, batch.cells)
    if whole:
        loss = loss + aims.grading * grading_loss(scores, grades)
    return loss, float(off.detach())


def widened(kinds: Tensor) -> Tensor:
    """Tell which kinds lie within some `WIDER` pixels: bool [N, kinds, H, W] of bits [N, H, W]."""
    for i in range(WIDER):
        # A cross and a square in turn make an octagon, which is all but a disc.
        tall = _spread(kinds, 1)
        kinds = tall | _spread(tall if i % 2 else kinds, 2)
    return torch.stack([kinds >> k & 1 for k in range(len(KINDS))], 1).bool()


def _spread(kinds: Tensor, axis: int) -> Tensor:
    """Join every pixel with its two neighbours along an axis of [N, H, W]."""
    edge = (0, 0, 1, 1) if axis == 1 else (1, 1)
    wide = functional.pad(kinds, edge)
    size = kinds.shape[axis]
    before, same, after = (wide.narrow(axis, i, size) for i in range(3))
    return before | same | after


class Validation(NamedTuple):
    """How validation retinas are graded, and how the maps of those graded right meet the lesions.

    Density and pointing are those of `truth.py` for positive input * gradient, by grade from 1 on.
    """

    kappa: float
    density: np.ndarray
    pointing: np.ndarray

    @property
    def worth(self) -> float:
        """One number to choose weights by; a density beyond 10 is as good as 10."""
        dense = np.log(np.clip(self.density, 1, 10)).mean()
        return float(5 * self.kappa + self.pointing.mean() + dense)


def validate(network: Network, folder: Path, first: int) -> Validation:
    """Look at the validation retinas from a seed on."""
    (shard,) = shards(folder, range(first, first + SHARD))
    predicted = []
    found: list[list[tuple[float, float]]] = [[] for _ in range(GRADES)]
    for i, image in enumerate(shard.images):
        x = normalise(np.array(image)[None]).requires_grad_()
        with run_fast():
            scores = network(lay_fast(x)).float()
        predicted.append(int(scores.argmax()))
        mask = shard.kinds[i] > 0
        if mask.any() and predicted[-1] == i % GRADES:
            (slope,) = torch.autograd.grad(scores.max(), x)
            told = measure((x * slope).sum(1).detach()[0].numpy(), wider(mask))
            found[i % GRADES].append((told["density"], told["pointing"]))
    confusion = confuse(np.arange(len(predicted)) % GRADES, np.array(predicted))
    # A grade that is never right gets nothing.
    density, pointing = np.array([np.mean(some or [(0, 0)], 0) for some in found[1:]]).T
    return Validation(kappa(confusion), density, pointing)


def validate_all(network: Network, folder: Path) -> list[Validation]:
    """Look at usual and at lone ones, where there are such; the processes share the looking."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    firsts = [first for first in CHOOSING if shards(folder, range(first, first + SHARD))]
    told = [
        validate(network, folder, first) if which % processes == rank else None
        for which, first in enumerate(firsts)
    ]
    gathered: list[list[Any]] = [[]] * processes
    distributed.all_gather_object(gathered, told)
    return [next(one[k] for one in gathered if one[k]) for k in range(len(told))]


def step(
    training: Training, aims: Aims, source: Batches, seen: deque[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Collect the gradients of crops, whole retinas, and grading; return what goes astray.

    Those retinas are few, and grades learned from them alone would stray in their turn; so a larger
    batch is graded on top of what rf125 made of it lately.
    """
    gone = []
    for crop, count in ((CROP, CROPS), (None, WHOLE)):
        loss, off = learn(training, aims, source.draw(count, crop), whole=crop is None)
        # Not back to the pixels.
        torch.autograd.backward(loss, inputs=list(training.parameters()))
        gone.append(off)
    batch = source.draw(GRADED)
    seen.append((look(training.network, batch.images), batch.grades))
    features, grades = (torch.cat(parts) for parts in zip(*seen, strict=True))
    loss = aims.grading / 2 * grading_loss(score(training.network, features), grades)
    loss.backward()
    return gone[0], gone[1]


def agree(parameters: list[nn.Parameter]) -> None:
    """Average the gradients of all processes."""
    slopes = [p.grad for p in parameters if p.grad is not None]
    whole = torch.cat([slope.flatten() for slope in slopes])
    distributed.all_reduce(whole)
    parts = (whole / distributed.get_world_size()).split([slope.numel() for slope in slopes])
    for slope, part in zip(slopes, parts, strict=True):
        slope.copy_(part.view_as(slope))


@dataclass
class Focus:
    """Training that goes on, its optimiser, and how far it has come."""

    training: Training
    out: Path
    aims: Aims
    done: int = 0
    minutes: float = 0.0
    best: float = -math.inf

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.Adam(self.training.parameters(), self.aims.rate)
        average = get_ema_multi_avg_fn(KEPT)
        self.mean = AveragedModel(self.training.network, multi_avg_fn=average)

    @property
    def averaged(self) -> Network:
        """The network with the mean of its latest weights."""
        return cast(Network, self.mean.module)

    def keep(self) -> None:
        """Write everything needed to go on later."""
        state = {
            "network": self.training.network.state_dict(),
            "mean": self.mean.state_dict(),
            "namer": self.training.namer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": [self.done, self.minutes, self.best],
        }
        write(state, self.out.with_suffix(".pt"))

    def resume(self) -> bool:
        """Go on from what `keep` wrote, if it wrote anything, with other batches from there on."""
        path = self.out.with_suffix(".pt")
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.training.network.load_state_dict(state["network"])
            self.mean.load_state_dict(state["mean"])
            self.training.namer.load_state_dict(state["namer"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.done, self.minutes, self.best = state["progress"]
        return path.exists()

    def report(self, validations: list[Validation], gone: np.ndarray) -> None:
        """Keep the state and the best weights; print how it goes (`gone` is this process's)."""
        facts = {
            "steps": self.done,
            "minutes": round(self.minutes, 1),
            "astray": gone.round(3).tolist(),
            "kappa": [round(one.kappa, 4) for one in validations],
            "density": [one.density.round(2).tolist() for one in validations],
            "pointing": [one.pointing.round(3).tolist() for one in validations],
        }
        print(json.dumps(facts), flush=True)
        worth = sum(one.worth for one in validations)
        if worth > self.best:
            self.best = worth
            save(self.averaged, self.out)
            self.out.with_suffix(".json").write_text(json.dumps({"focus": facts}, indent=1))
        self.keep()


def focus(state: Focus, folder: Path, steps: int) -> None:
    """Go on to so many steps; each sees crops and whole retinas in every process."""
    training, rank = state.training, distributed.get_rank()
    training.network.eval()
    state.averaged.eval()
    parameters = list(training.parameters())
    source = Batches(folder, np.random.default_rng([1, rank, state.done]), LONELY)
    seen: deque[tuple[Tensor, Tensor]] = deque(maxlen=REUSE)
    while state.done < steps:
        began, gone = time.perf_counter(), []
        for _ in range(min(LOOK, steps - state.done)):
            aims = state.aims.after(state.done / steps)
            state.optimiser.param_groups[0]["lr"] = aims.rate
            state.optimiser.zero_grad()
            gone.append(step(training, aims, source, seen))
            agree(parameters)
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            state.optimiser.step()
            state.mean.update_parameters(training.network)
            state.done += 1
        validations = validate_all(state.averaged, folder)
        state.minutes += (time.perf_counter() - began) / 60
        if rank == 0:
            state.report(validations, np.mean(gone, 0))


def begin_naming(training: Training, options: argparse.Namespace) -> None:
    """Take the head that names lesions from beside the weights, or fit one, the same everywhere."""
    path = options.weights.with_suffix(".pt")
    if path.exists():
        training.namer.load_state_dict(torch.load(path, weights_only=True)["namer"])
        return
    if distributed.get_rank() == 0:
        fit_namer(training, Batches(options.folder, np.random.default_rng(2)))
    for parameter in training.namer.parameters():
        distributed.broadcast(parameter.data, 0)


def work(rank: int, options: argparse.Namespace) -> None:
    """Be one of the processes."""
    meeting = f"file://{options.out.resolve()}.meeting"
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=options.processes)
    keep_memory()
    torch.set_num_threads(max(1, torch.get_num_threads() // options.processes))
    training = Training(options.weights, load(options.weights))
    aims = Aims(**{aim.name: getattr(options, aim.name) for aim in fields(Aims)})
    state = Focus(training, options.out, aims)
    if not state.resume():
        begin_naming(training, options)
    torch.manual_seed(1000 * state.done + rank)
    focus(state, options.folder, options.steps)
    distributed.destroy_process_group()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path, help="what train.py wrote, or an ONNX file")
    parser.add_argument("out", type=Path, help="the new weights")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--processes", type=int, default=2)
    for aim in fields(Aims):
        parser.add_argument(f"--{aim.name}", type=float, default=aim.default)
    options = parser.parse_args()
    states = {path.resolve().with_suffix(".pt") for path in (options.weights, options.out)}
    if options.out.suffix != ".npz" or len(states) == 1:
        parser.error("the new weights need a name of their own that ends in .npz")
    Path(f"{options.out.resolve()}.meeting").unlink(missing_ok=True)
    # Leaving in order takes the other processes along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    multiprocessing.spawn(work, (options,), options.processes, daemon=True)


if __name__ == "__main__":
    main()
