"""Teach trained weights to be right for the right reasons: what they see must be the lesions.

Ross, Hughes and Doshi-Velez, "Right for the right reasons" (IJCAI 2017): beside the loss, the
share of |input * gradient| that lies outside the lesions is made small, by differentiating the
gradient once more. Retinas whose masks are known make that possible. Whole retinas take their turn
with crops, which are cheap; the normalisation keeps the statistics that `train.py` left.

`python focus.py folder dr.npz focused.npz` wants what `train.py` left in dr.pt, and keeps the
weights that grade and localise best on validation retinas, usual and lone ones (`dataset.py`).
Every process does as much, so two take half the steps that one would need.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import Batches
from dataset import CELL, LONE, SHARD, VALIDATION, shards
from kappa import kappa
from network import GRADES, Network, load, normalise, save
from reasons import along, astray, run
from scipy import ndimage
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional
from train import Training

CROP = 256
WIDER = 5
CROPS, WHOLE = 6, 3  # in one step of one process
REUSE, MIXED = 4, 2  # regrading: steps between fresh batches, batches in one step
LOOK = 20  # steps between two looks at the validation retinas

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Plan:
    """How training goes on.

    ``regrade`` steps only grade, and only with the layers above rf125; then ``steps`` do all. Going
    astray costs ``strength``, and this share of the images is of ``lone`` eyes.
    """

    regrade: int
    steps: int
    strength: float
    lone: float
    rate: float


class Framed(Batches):
    """Batches of pixels and masks: retinas or crops of them, of every grade equally often."""

    def frames(self, count: int, crop: int | None) -> Batch:
        """Return images, their grades, the widened masks of what makes them, lesions by cell.

        Most crops are chosen about a lesion, where there is one.
        """
        images, shown, named = [], [], []
        grades = (np.arange(count) + self.rng.integers(GRADES)) % GRADES
        for grade in grades:
            shard, i = self.pick(grade)
            image, mask = shard.images[i], shard.mask(i)
            cells = shard.lesions[i].transpose(1, 2, 0)
            if crop:
                at = self.rng.integers(image.shape[0], size=2)
                if mask.any() and self.rng.random() < 0.8:
                    found = np.flatnonzero(mask)
                    at = np.array(divmod(self.rng.choice(found), mask.shape[1]))
                    at += self.rng.integers(-crop // 3, crop // 3, size=2)
                y, x = np.clip(at - crop // 2, 0, image.shape[0] - crop) // CELL * CELL
                cells = cells[y // CELL :, x // CELL :][: crop // CELL, : crop // CELL]
                image, mask = (a[y : y + crop, x : x + crop] for a in (image, mask))
            image, mask, cells = self.turn(image, mask, cells)
            images.append(image)
            shown.append(widened(mask))
            named.append(cells)
        x = self.shake(normalise(np.stack(images)))
        cells = torch.from_numpy(np.stack(named)).permute(0, 3, 1, 2).float()
        return x, torch.from_numpy(grades), torch.from_numpy(np.stack(shown))[:, None], cells


def widened(mask: np.ndarray) -> np.ndarray:
    """Add the pixels near a mask."""
    return np.asarray(ndimage.binary_dilation(mask, iterations=WIDER))


def learn(training: Training, batch: Batch, strength: float, whole: bool) -> tuple[Tensor, float]:
    """Return a loss to differentiate, and how much goes `astray`.

    Whole retinas are graded. Crops, which have no grade, only go on naming the lesions.
    """
    x, grades, mask, cells = batch
    network = training.network
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        scores, features, states = run(network, x)
        named = training.namer(features).float()
    scores = scores.float()
    chosen = scores.gather(1, grades[:, None]).sum()
    (slope,) = torch.autograd.grad(chosen, x, retain_graph=True)
    slope = slope.detach().requires_grad_()
    off = astray((x.detach() * slope).sum(1, keepdim=True), mask)
    (way,) = torch.autograd.grad(off, slope)
    with torch.autocast("cpu", torch.bfloat16):
        change = along(network, way, states).float()
    loss = strength * change.gather(1, grades[:, None]).sum()
    loss = loss + 10 * functional.binary_cross_entropy_with_logits(
        named, cells, pos_weight=torch.tensor(3.0)
    )
    if whole:
        loss = loss + 2 * functional.cross_entropy(scores, grades, label_smoothing=0.02)
    return loss, float(off.detach())


def look(network: Network, folder: Path, first: int, count: int) -> tuple[float, np.ndarray]:
    """Return kappa on validation retinas from a seed on, and by grade the density in the lesions.

    The density is that of positive input * gradient, a geometric mean over retinas.
    """
    (shard,) = shards(folder, range(first, first + SHARD))
    confusion = np.zeros((GRADES, GRADES), int)
    found: list[list[float]] = [[] for _ in range(GRADES)]
    for i in range(count):
        x = normalise(np.array(shard.images[i])[None]).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(x).float()
        confusion[i % GRADES, int(scores.argmax())] += 1
        mask = widened(shard.mask(i))
        if mask.any():
            (slope,) = torch.autograd.grad(scores.max(), x)
            rise = (x * slope).sum(1).detach()[0].clamp(min=0).numpy()
            inside = rise[mask].sum() / (rise.sum() + 1e-9)
            found[i % GRADES].append(np.log(inside / mask.mean() + 1e-2))
    return kappa(confusion), np.array([np.exp(np.mean(some)) for some in found[1:]])


def watch(network: Network, folder: Path) -> list[tuple[float, np.ndarray]]:
    """Look at usual and at lone validation retinas; the processes share the looking."""
    rank, others = distributed.get_rank(), distributed.get_world_size()
    told = [
        look(network, folder, first, count) if which % others == rank else None
        for which, (first, count) in enumerate(((VALIDATION, 40), (VALIDATION + LONE, 60)))
    ]
    gathered: list[list[Any]] = [[]] * others
    distributed.all_gather_object(gathered, told)
    return [next(one[k] for one in gathered if one[k]) for k in range(len(told))]


def seen(training: Training, source: Batches) -> tuple[Tensor, Tensor]:
    """Draw whole retinas; return what rf125 makes of them, and their grades."""
    x, grades, _ = source.draw()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return training.network.lesions(x.contiguous(memory_format=torch.channels_last)), grades


def regrade(training: Training, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the loss of grading by what rf125 saw; the layers up to it stay as they are."""
    features, grades = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        scores = training.network.grade(training.network.rest(features)).float()
    return functional.cross_entropy(scores, grades, label_smoothing=0.02)


def step(
    training: Training, source: Framed, parameters: list[nn.Parameter], strength: float
) -> tuple[float, float]:
    """Collect the gradients of crops, whole retinas, and grading; return what goes astray.

    Those retinas are few, and grades learned from them alone would stray in their turn; so a larger
    batch is graded on top of what rf125 makes of it.
    """
    gone = []
    for crop, count in ((CROP, CROPS), (None, WHOLE)):
        batch = source.frames(count, crop)
        loss, off = learn(training, batch, strength, whole=crop is None)
        # Not back to the pixels.
        torch.autograd.backward(loss, inputs=parameters)
        gone.append(off)
    regrade(training, [seen(training, source)]).backward()
    return gone[0], gone[1]


def agree(parameters: list[nn.Parameter]) -> None:
    """Average the gradients of all processes."""
    slopes = [p.grad for p in parameters if p.grad is not None]
    whole = torch.cat([slope.flatten() for slope in slopes])
    distributed.all_reduce(whole)
    parts = (whole / distributed.get_world_size()).split([slope.numel() for slope in slopes])
    for slope, part in zip(slopes, parts, strict=True):
        slope.copy_(part.view_as(slope))


def focus(training: Training, folder: Path, out: Path, plan: Plan) -> None:
    """Go on from trained weights; every step sees crops and whole retinas in each process."""
    rank = distributed.get_rank()
    network = training.network.eval()
    parameters = [*network.parameters(), *training.namer.parameters()]
    optimiser = torch.optim.Adam(parameters, plan.rate)
    source = Framed(folder, np.random.default_rng([1, rank]), plan.lone)
    pool: list[tuple[Tensor, Tensor]] = []
    began, log, best = time.process_time(), [], 0.0
    for i in range(plan.regrade + plan.steps):
        past = i / (plan.regrade + plan.steps)
        fall = 0.02 + 0.98 * math.cos(math.pi / 2 * past) ** 2
        optimiser.param_groups[0]["lr"] = plan.rate * fall
        optimiser.zero_grad()
        if i < plan.regrade:
            if i % REUSE == 0:
                pool.append(seen(training, source))
            some = source.rng.integers(len(pool), size=MIXED)
            regrade(training, [pool[k] for k in some]).backward()
        else:
            log.append(step(training, source, parameters, plan.strength))
        agree(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        done = i + 1 - plan.regrade
        if done < 0 or (done % LOOK and done < plan.steps):
            continue
        usual, lone = watch(network, folder)
        facts = {
            "steps": i + 1,
            "minutes": round((time.process_time() - began) / 60, 1),
            "astray": np.mean(log[-LOOK:], 0).round(3).tolist() if log else None,
            "kappa": [round(usual[0], 4), round(lone[0], 4)],
            "density": [usual[1].round(2).tolist(), lone[1].round(2).tolist()],
        }
        if rank == 0:
            # A density beyond 30 is as good as 30, lest grade 1 decide alone; kappa must stay.
            dense = np.minimum(np.concatenate([usual[1], lone[1]]), 30)
            worth = float(dense.mean()) + 50 * min(usual[0], lone[0])
            print(json.dumps(facts), flush=True)
            save(network, out.with_suffix(".last.npz"))
            if worth > best:
                best = worth
                save(network, out)
                out.with_suffix(".json").write_text(json.dumps({"focus": facts}, indent=1))


def work(rank: int, options: argparse.Namespace) -> None:
    """Be one of the processes."""
    meeting = f"file://{options.out.resolve()}.meeting"
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=options.processes)
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    training = Training(options.weights)
    training.resume()
    if options.start:
        training.network.load_state_dict(load(options.start).state_dict())
    plan = Plan(options.regrade, options.steps, options.strength, options.lone, options.rate)
    focus(training, options.folder, options.out, plan)
    distributed.destroy_process_group()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path, help="what train.py wrote")
    parser.add_argument("out", type=Path, help="the new weights")
    parser.add_argument("--start", type=Path, help="weights to go on from in place of those")
    parser.add_argument("--regrade", type=int, default=60, help="steps that only grade")
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--strength", type=float, default=1.5)
    parser.add_argument("--lone", type=float, default=0.5, help="the share of lone eyes")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    Path(f"{options.out.resolve()}.meeting").unlink(missing_ok=True)
    multiprocessing.spawn(work, (options,), options.processes)


if __name__ == "__main__":
    main()
