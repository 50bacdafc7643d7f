"""Teach trained weights to be right for the right reasons: what they see must be the lesions.

Ross, Hughes and Doshi-Velez, "Right for the right reasons" (IJCAI 2017): beside the loss, the
share of |input * gradient| that lies outside the lesions is made small, by differentiating the
gradient once more. Retinas whose masks are known make that possible. Whole retinas take their turn
with crops, which are cheap; the normalisation keeps the statistics that `train.py` left.

`python focus.py folder dr.npz focused.npz --minutes 12` wants what `train.py` left in dr.pt, and
keeps the weights that localise best on validation retinas among those that still grade them.
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
from network import FIELDS, GRADES, Network, load, normalise, save
from scipy import ndimage
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional
from train import Training

RATE = 5e-4
CROP = 256
WIDER = 5
CROPS, WHOLE = 6, 3  # in one step of one process
REUSE, MIXED = 4, 2  # regrading: steps between fresh batches, batches in one step
LOOK = 20  # steps between two looks at the validation retinas

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
States = list[tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Plan:
    """How training goes on.

    ``regrade`` steps only grade, and only with the layers above rf125; then ``steps`` do all. Going
    astray costs ``strength``. The first ``fixed`` layers stay as they are, which takes half the
    time, and this share of the images is of ``lone`` eyes.
    """

    regrade: int
    steps: int
    strength: float
    fixed: int
    lone: float


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


def run(network: Network, x: Tensor) -> tuple[Tensor, Tensor, States]:
    """Return scores, the features of rf125, and which units were awake and won each pooling."""
    states: States = []
    for i, field in enumerate(FIELDS):
        x = getattr(network, f"rf{field}")(x)
        awake, won = x > 0, None
        if field == 125:
            features = x
        if i % 2 and i != len(FIELDS) - 1:
            x, won = functional.max_pool2d(x, 2, return_indices=True)
        states.append((awake, won))
    return network.grade(x), features, states


def along(network: Network, way: Tensor, states: States) -> Tensor:
    """Return how the scores change as the input goes a little ``way``, linear in it.

    Differentiating that by the weights is differentiating the gradient by them, for a quarter of
    the time: the units that are awake and those that win stay the same.
    """
    for field, (awake, won) in zip(FIELDS, states, strict=True):
        layer = getattr(network, f"rf{field}")
        slope = layer.bn.weight / torch.sqrt(layer.bn.running_var + layer.bn.eps)
        weight = layer.conv.weight * slope.view(-1, 1, 1, 1)
        way = functional.conv2d(way, weight, padding=layer.conv.padding) * awake
        if won is not None:
            way = way.flatten(2).gather(2, won.flatten(2)).view_as(won)
    return way.mean((2, 3)) @ network.lc.weight.T


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


def astray(given: Tensor, mask: Tensor) -> Tensor:
    """Measure how much of |given| lies outside the masks: minus the log of the share inside.

    Images without lesions count by what they show beside those with some.
    """
    size = given.abs()
    whole, inside = size.sum((1, 2, 3)) + 1e-6, (size * mask).sum((1, 2, 3)) + 1e-6
    ill = mask.flatten(1).any(1)
    if not ill.any():
        return 0 * whole.sum()
    usual = inside[ill].detach().log().mean().exp()
    return torch.where(ill, torch.log(whole / inside), torch.log1p(whole / usual)).mean()


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
    """Collect the gradients of a batch of crops and one of whole retinas; return what is astray."""
    gone = []
    for crop, count in ((CROP, CROPS), (None, WHOLE)):
        batch = source.frames(count, crop)
        loss, off = learn(training, batch, strength, whole=crop is None)
        # Not back to the pixels, nor through layers that stay as they are.
        torch.autograd.backward(loss, inputs=parameters)
        gone.append(off)
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
    rank, others = distributed.get_rank(), distributed.get_world_size()
    network = training.network.eval()
    for field in FIELDS[: plan.fixed]:
        getattr(network, f"rf{field}").requires_grad_(False)
    every = [*network.parameters(), *training.namer.parameters()]
    parameters = [p for p in every if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, RATE)
    source = Framed(folder, np.random.default_rng([1, rank]), plan.lone)
    pool: list[tuple[Tensor, Tensor]] = []
    began, log, best = time.process_time(), [], 0.0
    for i in range(plan.regrade + plan.steps):
        past = i / (plan.regrade + plan.steps)
        optimiser.param_groups[0]["lr"] = RATE * (0.02 + 0.98 * math.cos(math.pi / 2 * past) ** 2)
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
        # The processes share the looking.
        told = [
            look(network, folder, first, count) if which % others == rank else None
            for which, (first, count) in enumerate(((VALIDATION, 20), (VALIDATION + LONE, 40)))
        ]
        gathered: list[list[Any]] = [[]] * others
        distributed.all_gather_object(gathered, told)
        usual, lone = (next(one[k] for one in gathered if one[k]) for k in range(2))
        facts = {
            "steps": i + 1,
            "minutes": round((time.process_time() - began) / 60, 1),
            "astray": np.mean(log[-LOOK:], 0).round(3).tolist() if log else None,
            "kappa": [round(one[0], 4) for one in (usual, lone)],
            "density": [one[1].round(2).tolist() for one in (usual, lone)],
        }
        # A density beyond 30 is as good as 30, lest grade 1 decide alone; kappa must stay.
        dense = float(np.minimum(np.concatenate([usual[1], lone[1]]), 30).mean())
        worth = dense + 50 * min(usual[0], lone[0])
        if rank == 0:
            print(json.dumps(facts), flush=True)
            save(network, out.with_suffix(".last.npz"))
        if rank == 0 and worth > best:
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
    plan = Plan(options.regrade, options.steps, options.strength, options.fixed, options.lone)
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
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--strength", type=float, default=1.5)
    parser.add_argument("--fixed", type=int, default=0, help="layers that stay as they are")
    parser.add_argument("--lone", type=float, default=0.5, help="the share of lone eyes")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    Path(f"{options.out.resolve()}.meeting").unlink(missing_ok=True)
    multiprocessing.spawn(work, (options,), options.processes)


if __name__ == "__main__":
    main()
