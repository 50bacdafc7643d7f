"""Teach trained weights to be right for the right reasons: what they see must be the lesions.

Ross, Hughes and Doshi-Velez, "Right for the right reasons" (IJCAI 2017): beside the loss, the
share of |input * gradient| that lies outside the lesions is made small, by differentiating the
gradient once more. Retinas whose masks are known make that possible. All layers learn: from crops,
which are cheap, and from whole retinas, which have a grade. The normalisation keeps the statistics
that `train.py` left.

`python -m models.dr.focus folder dr.npz focused.npz` wants what `train.py` left in dr.pt, and keeps
the weights that grade and localise best on validation retinas, usual and lone ones (`dataset.py`).
Every process does as much, so two take half the steps that one would need.
"""

import argparse
import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, distributed, multiprocessing, nn

from models.dr.batches import Batch, Batches
from models.dr.dataset import LONE, SHARD, VALIDATION, shards
from models.dr.kappa import confuse, kappa
from models.dr.network import GRADES, Network, load, normalise, save
from models.dr.processor import keep_memory, lay_fast, run_fast
from models.dr.reasons import along, astray, run
from models.dr.train import CROP, Training, fall, grading_loss, look, naming_loss, score

RATE = 3e-4
STRENGTH = 1.5  # of the penalty for going astray
WIDER = 5
CROPS, WHOLE = 6, 3  # in one step of one process
GRADED, REUSE = 5, 4  # more retinas only graded; for so many steps by what rf125 made of them
LOOK = 50  # steps between two looks at the validation retinas


def learn(training: Training, batch: Batch, whole: bool) -> tuple[Tensor, float]:
    """Return a loss to differentiate, and how much goes `astray`.

    Whole retinas are graded. Crops, which have no grade, only go on naming the lesions.
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
    off = astray((x.detach() * slope).sum(1, keepdim=True), widened(batch.masks))
    (way,) = torch.autograd.grad(off, slope)
    with run_fast():
        change = along(network, way, states).float()
    loss = STRENGTH * change.gather(1, grades[:, None]).sum()
    loss = loss + naming_loss(named, batch.cells)
    if whole:
        loss = loss + 2 * grading_loss(scores, grades)
    return loss, float(off.detach())


def widened(masks: Tensor) -> Tensor:
    """Add the pixels near masks [N, 1, H, W]."""
    near = ndimage.generate_binary_structure(2, 1)[None, None]
    return torch.from_numpy(ndimage.binary_dilation(masks.numpy(), near, iterations=WIDER))


def worth(network: Network, folder: Path, first: int, count: int) -> tuple[float, np.ndarray]:
    """Return kappa on validation retinas from a seed on, and by grade the density in the lesions.

    The density is that of positive input * gradient, a geometric mean over retinas.
    """
    (shard,) = shards(folder, range(first, first + SHARD))
    given = []
    found: list[list[float]] = [[] for _ in range(GRADES)]
    for i in range(count):
        x = normalise(np.array(shard.images[i])[None]).requires_grad_()
        with run_fast():
            scores = network(x).float()
        given.append(int(scores.argmax()))
        mask = widened(torch.from_numpy(shard.mask(i))[None, None])[0, 0].numpy()
        if mask.any():
            (slope,) = torch.autograd.grad(scores.max(), x)
            rise = (x * slope).sum(1).detach()[0].clamp(min=0).numpy()
            inside = rise[mask].sum() / (rise.sum() + 1e-9)
            found[i % GRADES].append(np.log(inside / mask.mean() + 1e-2))
    confusion = confuse(np.arange(count) % GRADES, np.array(given))
    return kappa(confusion), np.array([np.exp(np.mean(some)) for some in found[1:]])


def watch(network: Network, folder: Path) -> list[tuple[float, np.ndarray]]:
    """Look at usual and at lone validation retinas; the processes share the looking."""
    rank, others = distributed.get_rank(), distributed.get_world_size()
    told = [
        worth(network, folder, first, count) if which % others == rank else None
        for which, (first, count) in enumerate(((VALIDATION, 50), (VALIDATION + LONE, 60)))
    ]
    gathered: list[list[Any]] = [[]] * others
    distributed.all_gather_object(gathered, told)
    return [next(one[k] for one in gathered if one[k]) for k in range(len(told))]


def step(
    training: Training, source: Batches, seen: deque[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Collect the gradients of crops, whole retinas, and grading; return what goes astray.

    Those retinas are few, and grades learned from them alone would stray in their turn; so a larger
    batch is graded on top of what rf125 made of it lately.
    """
    gone = []
    for crop, count in ((CROP, CROPS), (None, WHOLE)):
        loss, off = learn(training, source.draw(count, crop), whole=crop is None)
        # Not back to the pixels.
        torch.autograd.backward(loss, inputs=list(training.parameters()))
        gone.append(off)
    batch = source.draw(GRADED)
    seen.append((look(training.network, batch.images), batch.grades))
    features, grades = (torch.cat(parts) for parts in zip(*seen, strict=True))
    grading_loss(score(training.network, features), grades).backward()
    return gone[0], gone[1]


def agree(parameters: list[nn.Parameter]) -> None:
    """Average the gradients of all processes."""
    slopes = [p.grad for p in parameters if p.grad is not None]
    whole = torch.cat([slope.flatten() for slope in slopes])
    distributed.all_reduce(whole)
    parts = (whole / distributed.get_world_size()).split([slope.numel() for slope in slopes])
    for slope, part in zip(slopes, parts, strict=True):
        slope.copy_(part.view_as(slope))


def focus(training: Training, folder: Path, out: Path, steps: int) -> None:
    """Go on from trained weights; every step sees crops and whole retinas in each process."""
    network = training.network.eval()
    parameters = list(training.parameters())
    optimiser = torch.optim.Adam(parameters, RATE)
    source = Batches(folder, np.random.default_rng([1, distributed.get_rank()]))
    seen: deque[tuple[Tensor, Tensor]] = deque(maxlen=REUSE)
    began, log, best = time.perf_counter(), [], 0.0
    for done in range(1, steps + 1):
        optimiser.param_groups[0]["lr"] = RATE * fall((done - 1) / steps, least=0.02)
        optimiser.zero_grad()
        log.append(step(training, source, seen))
        agree(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        if done % LOOK and done < steps:
            continue
        usual, lone = watch(network, folder)
        facts = {
            "steps": done,
            "minutes": round((time.perf_counter() - began) / 60, 1),
            "astray": np.mean(log[-LOOK:], 0).round(3).tolist(),
            "kappa": [round(usual[0], 4), round(lone[0], 4)],
            "density": [usual[1].round(2).tolist(), lone[1].round(2).tolist()],
        }
        if distributed.get_rank() == 0:
            # A density beyond 30 is as good as 30, lest grade 1 decide alone; kappa must stay.
            dense = np.minimum(np.concatenate([usual[1], lone[1]]), 30)
            told = float(dense.mean()) + 50 * min(usual[0], lone[0])
            print(json.dumps(facts), flush=True)
            if told > best:
                best = told
                save(network, out)
                out.with_suffix(".json").write_text(json.dumps({"focus": facts}, indent=1))


def work(rank: int, options: argparse.Namespace) -> None:
    """Be one of the processes."""
    meeting = f"file://{options.out.resolve()}.meeting"
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=options.processes)
    keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    training = Training(options.weights)
    training.resume()
    training.network.load_state_dict(load(options.weights).state_dict())
    focus(training, options.folder, options.out, options.steps)
    distributed.destroy_process_group()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path, help="what train.py wrote")
    parser.add_argument("out", type=Path, help="the new weights")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    Path(f"{options.out.resolve()}.meeting").unlink(missing_ok=True)
    multiprocessing.spawn(work, (options,), options.processes)


if __name__ == "__main__":
    main()
