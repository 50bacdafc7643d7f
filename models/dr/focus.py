"""Teach trained weights to be right for the right reasons: what they see must be the lesions.

Ross, Hughes and Doshi-Velez, "Right for the right reasons" (IJCAI 2017): beside the loss, the
share of |input * gradient| that lies outside the lesions is made small, by differentiating the
gradient once more. Retinas whose masks are known make that possible. Whole retinas take their turn
with crops, which are cheap; the normalisation keeps the statistics that `train.py` left.

`python focus.py folder dr.npz focused.npz --minutes 25` wants what `train.py` left in dr.pt, and
keeps the weights that localise best on validation retinas among those that still grade them.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from batches import BATCH, Batches
from dataset import TEST, VALIDATION, masks, shards
from examine import examine, summary
from network import FIELDS, GRADES, Network, normalise, save
from kappa import kappa, kappa_loss
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from train import Training

RATE = 5e-4
CROP = 256
WIDER = 5
GOOD_KAPPA = 0.96


class Framed(Batches):
    """Batches of pixels and masks: retinas or crops of them, of every grade equally often."""

    def refresh(self) -> None:
        """Notice shards painted in the meantime, and their masks."""
        super().refresh()
        self.masks = masks(self.folder, range(VALIDATION))

    def frames(self, count: int, crop: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, their grades and the widened masks of all their lesions.

        Most crops are chosen about a lesion, where there is one.
        """
        images, shown = [], []
        grades = (np.arange(count) + self.rng.integers(GRADES)) % GRADES
        for grade in grades:
            shard = self.rng.integers(len(self.shards))
            i = grade + GRADES * self.rng.integers(len(self.shards[shard][0]) // GRADES)
            image = self.shards[shard][0][i]
            mask = np.unpackbits(self.masks[shard][i], axis=1).astype(bool)
            if crop:
                at = self.rng.integers(image.shape[0], size=2)
                if mask.any() and self.rng.random() < 0.8:
                    found = np.flatnonzero(mask)
                    at = np.array(divmod(self.rng.choice(found), mask.shape[1]))
                    at += self.rng.integers(-crop // 3, crop // 3, size=2)
                y, x = np.clip(at - crop // 2, 0, image.shape[0] - crop)
                image, mask = (a[y : y + crop, x : x + crop] for a in (image, mask))
            image, mask = self.turn(image, mask)
            images.append(image)
            shown.append(widened(mask))
        x = self.shake(normalise(np.stack(images)))
        x += 0.03 * torch.randn_like(x)
        return x, torch.from_numpy(grades), torch.from_numpy(np.stack(shown))[:, None]


def widened(mask: np.ndarray) -> np.ndarray:
    """Add the pixels near a mask."""
    return np.asarray(ndimage.binary_dilation(mask, iterations=WIDER))


def run(network: Network, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor | None]]]:
    """Score the grades, and tell which units were awake and which won each pooling."""
    states: list[tuple[Tensor, Tensor | None]] = []
    for i, field in enumerate(FIELDS):
        x = getattr(network, f"rf{field}")(x)
        awake, won = x > 0, None
        if i % 2 and i != len(FIELDS) - 1:
            x, won = functional.max_pool2d(x, 2, return_indices=True)
        states.append((awake, won))
    return network.grade(x), states


def along(network: Network, way: Tensor, states: list[tuple[Tensor, Tensor | None]]) -> Tensor:
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


def learn(
    network: Network, x: Tensor, grades: Tensor, mask: Tensor, whole: bool
) -> tuple[Tensor, Tensor, float]:
    """Return the scores, a term whose gradient is that of `astray`, and what `astray` is."""
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(True):
        scores, states = run(network, x)
    scores = scores.float()
    chosen = scores.gather(1, grades[:, None]).sum()
    (slope,) = torch.autograd.grad(chosen, x, retain_graph=whole)
    slope = slope.detach().requires_grad_()
    off = astray((x.detach() * slope).sum(1, keepdim=True), mask, whole)
    (way,) = torch.autograd.grad(off, slope)
    with torch.autocast("cpu", torch.bfloat16):
        change = along(network, way, states).float()
    return scores, change.gather(1, grades[:, None]).sum(), float(off.detach())


def astray(given: Tensor, mask: Tensor, each: bool) -> Tensor:
    """Measure how much of |given| lies outside the masks: minus the log of the share inside."""
    size = given.abs()
    inside, whole = ((size * part).sum((1, 2, 3)) for part in (mask, torch.ones(())))
    if not each:  # crops without lesions count by what they add to the rest
        return torch.log(whole.sum() + 1e-6) - torch.log(inside.sum() + 1e-6)
    ill = mask.any(-1).any(-1).any(-1)
    return (torch.log(whole[ill] + 1e-6) - torch.log(inside[ill] + 1e-6)).mean()


def look(network: Network, folder: Path, count: int = 25) -> tuple[float, np.ndarray]:
    """Return the mean density in the lesions of positive input * gradient, and it by grade."""
    painted, hidden = shards(folder, range(VALIDATION, TEST))[0][0], masks(
        folder, range(VALIDATION, TEST)
    )[0]
    found = []
    for i in range(count):
        if i % GRADES:
            x = normalise(np.array(painted[i])[None]).requires_grad_()
            top = network(x).max()
            (slope,) = torch.autograd.grad(top, x)
            rise = (x * slope).sum(1).detach()[0].clamp(min=0).numpy()
            mask = widened(np.unpackbits(hidden[i], axis=1).astype(bool))
            found.append(rise[mask].sum() / rise.sum() / mask.mean())
    by_grade = np.exp(np.log(np.array(found) + 1e-3).reshape(-1, GRADES - 1).mean(0))
    return float(by_grade.mean()), by_grade


def focus(folder: Path, weights: Path, out: Path, minutes: float, strength: float) -> None:
    """Go on training from the state beside ``weights``."""
    training = Training(weights)
    training.resume()
    network = training.network.eval()
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    source = Framed(folder, np.random.default_rng(1))
    spent, best, steps, log = 0.0, 0.0, 0, []
    while spent < minutes:
        began = time.process_time()
        for _ in range(24):
            now = spent + (time.process_time() - began) / 60
            rate = RATE * (0.02 + 0.98 * math.cos(math.pi / 2 * min(1, now / minutes)) ** 2)
            optimiser.param_groups[0]["lr"] = rate
            whole = steps % 4 == 3
            x, grades, mask = source.frames(5 if whole else BATCH, None if whole else CROP)
            scores, term, off = learn(network, x, grades, mask, whole)
            loss = strength * term
            if whole:
                loss = loss + 2 * functional.cross_entropy(scores, grades)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            log.append((whole, off))
            steps += 1
        spent += (time.process_time() - began) / 60
        apart = [np.mean([o for w, o in log[-24:] if w == kind]) for kind in (False, True)]
        mean, by_grade = look(network, folder)
        save(network, out.with_suffix(".last.npz"))
        print(f"{spent:.1f} min, astray {apart}, density {by_grade.round(1)}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where dataset.py paints")
    parser.add_argument("weights", type=Path, help="what train.py wrote")
    parser.add_argument("out", type=Path, help="the new weights")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    focus(options.folder, options.weights, options.out, options.minutes, options.strength)


if __name__ == "__main__":
    main()
