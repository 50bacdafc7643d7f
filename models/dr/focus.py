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
from pathlib import Path

import numpy as np
import torch
from batches import Batches
from dataset import CELL, TEST, VALIDATION, masks, shards
from kappa import kappa
from network import FIELDS, GRADES, Network, normalise, save
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from train import Training

RATE = 5e-4
CROP = 256
WIDER = 5
STEPS = 20  # between two looks at the validation retinas
GOOD_KAPPA = 0.96

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
States = list[tuple[Tensor, Tensor | None]]


class Framed(Batches):
    """Batches of pixels and masks: retinas or crops of them, of every grade equally often."""

    def refresh(self) -> None:
        """Notice shards painted in the meantime, and their masks."""
        super().refresh()
        self.masks = masks(self.folder, range(VALIDATION))

    def frames(self, count: int, crop: int | None) -> Batch:
        """Return images, their grades, the widened masks of all lesions, and lesions by cell.

        Most crops are chosen about a lesion, where there is one.
        """
        images, shown, named = [], [], []
        grades = (np.arange(count) + self.rng.integers(GRADES)) % GRADES
        for grade in grades:
            shard = self.rng.integers(len(self.shards))
            i = grade + GRADES * self.rng.integers(len(self.shards[shard][0]) // GRADES)
            image = self.shards[shard][0][i]
            cells = self.shards[shard][1][i].transpose(1, 2, 0)
            mask = np.unpackbits(self.masks[shard][i], axis=1).astype(bool)
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
        x += 0.03 * torch.randn_like(x)
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


def look(network: Network, folder: Path, count: int) -> tuple[float, np.ndarray]:
    """Return kappa on validation retinas, and by grade the density in the lesions.

    The density is that of positive input * gradient, a geometric mean over retinas.
    """
    painted = shards(folder, range(VALIDATION, TEST))[0][0]
    hidden = masks(folder, range(VALIDATION, TEST))[0]
    confusion = np.zeros((GRADES, GRADES), int)
    found: list[list[float]] = [[] for _ in range(GRADES)]
    for i in range(count):
        x = normalise(np.array(painted[i])[None]).requires_grad_()
        scores = network(x)
        confusion[i % GRADES, int(scores.argmax())] += 1
        mask = widened(np.unpackbits(hidden[i], axis=1).astype(bool))
        if mask.any():
            (slope,) = torch.autograd.grad(scores.max(), x)
            rise = (x * slope).sum(1).detach()[0].clamp(min=0).numpy()
            inside = rise[mask].sum() / (rise.sum() + 1e-9)
            found[i % GRADES].append(np.log(inside / mask.mean() + 1e-2))
    return kappa(confusion), np.array([np.exp(np.mean(some)) for some in found[1:]])


def focus(folder: Path, weights: Path, out: Path, minutes: float, strength: float) -> None:
    """Go on from the state beside ``weights``; every step sees crops and whole retinas."""
    training = Training(weights)
    training.resume()
    network = training.network.eval()
    parameters = [*network.parameters(), *training.namer.parameters()]
    optimiser = torch.optim.Adam(parameters, RATE)
    source = Framed(folder, np.random.default_rng(1))
    spent, best, steps = 0.0, 0.0, 0
    while spent < minutes:
        began, log = time.process_time(), []
        for _ in range(STEPS):
            now = spent + (time.process_time() - began) / 60
            rate = RATE * (0.02 + 0.98 * math.cos(math.pi / 2 * min(1, now / minutes)) ** 2)
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            gone = []
            for crop, count in ((CROP, 10), (None, 5)):
                batch = source.frames(count, crop)
                loss, off = learn(training, batch, strength, whole=crop is None)
                loss.backward()
                gone.append(off)
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimiser.step()
            log.append(gone)
        steps += STEPS
        agreement, dense = look(network, folder, 40)
        spent += (time.process_time() - began) / 60
        facts = {
            "minutes": round(spent, 1),
            "steps": steps,
            "astray_crops": round(float(np.mean(log, 0)[0]), 3),
            "astray_whole": round(float(np.mean(log, 0)[1]), 3),
            "kappa": round(agreement, 4),
            **{f"density_{grade}": round(float(d), 2) for grade, d in enumerate(dense, 1)},
        }
        print(json.dumps(facts), flush=True)
        # A grade's density beyond 30 is as good as 30, lest grade 1 decide alone; kappa must stay.
        worth = float(np.minimum(dense, 30).mean()) if agreement >= GOOD_KAPPA else 0.0
        if worth > best:
            best = worth
            save(network, out)
            out.with_suffix(".json").write_text(json.dumps({"focus": facts}, indent=1))
        save(network, out.with_suffix(".last.npz"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path, help="what train.py wrote")
    parser.add_argument("out", type=Path, help="the new weights")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--strength", type=float, default=1.5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    focus(options.folder, options.weights, options.out, options.minutes, options.strength)


if __name__ == "__main__":
    main()
