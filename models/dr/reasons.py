"""How much of an explanation goes astray, and how that changes with the weights.

The explanation is input * gradient. The gradient of something made of a gradient takes another way
here than differentiating twice: see `along`.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.dr.network import FIELDS, Network

PEAK = 12  # pixels: what pointing at a lesion means
POWER = 6  # a norm so high is all but the maximum
FAIR = 0.9  # of what an even map would show of each kind, beside the others
States = list[tuple[Tensor, Tensor | None]]


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


class Weights(NamedTuple):
    """What `mispointing` and `unfair` weigh beside `outside`, and the margin of the former."""

    pointing: float
    margin: float
    fairness: float


def astray(attribution: Tensor, kinds: Tensor, makes: Tensor, weights: Weights) -> Tensor:
    """Measure how wrong an explanation [N, 1, H, W] is about lesions of some kinds [N, K, H, W].

    That is how much of its absolute value lies outside them all; how much higher it peaks than in
    the kinds that make the grade by themselves, bool [N, K], so that its peaks are right and not
    only most of it; and how far some of those fall behind other kinds.
    """
    mask, size = kinds.any(1, keepdim=True), attribution.abs()
    deciding = (kinds & makes[:, :, None, None]).any(1, keepdim=True)
    peak = mispointing(attribution.clamp(min=0), deciding, weights.margin)
    passed = unfair(size, kinds, makes)
    return outside(size, mask) + weights.pointing * peak + weights.fairness * passed


def outside(size: Tensor, mask: Tensor) -> Tensor:
    """Take minus the log of the share inside the masks.

    Images without lesions count by what they show beside those with some.
    """
    # So small a part counts as nothing: it keeps the logarithms finite.
    whole, inside = (part.sum((1, 2, 3)) for part in (size, size * mask))
    whole, inside = (part + 1e-6 * whole.detach().mean() + 1e-30 for part in (whole, inside))
    ill = mask.flatten(1).any(1)
    if not ill.any():
        return 0 * whole.sum()
    usual = inside[ill].detach().log().mean().exp()
    return torch.where(ill, torch.log(whole / inside), torch.log1p(whole / usual)).mean()


def mispointing(rise: Tensor, mask: Tensor, margin: float = 1.0) -> Tensor:
    """Take the log of the highest place of all over the highest inside, both as norms of `POWER`.

    A place is a triangle some 20 pixels wide, much like the Gaussian of the pointing game. It is
    inside where its middle is; outside it counts as if ``margin`` times as high. Middles are no
    nearer to the edge than ten pixels. Images without lesions have nothing to point at.
    """
    stride = PEAK // 3
    places = functional.avg_pool2d(functional.avg_pool2d(rise, PEAK, stride), 3, 1)
    middle, (height, width) = PEAK // 2 + stride, places.shape[2:]
    inside = mask[:, :, middle::stride, middle::stride][:, :, :height, :width]
    ill = inside.flatten(1).any(1)
    if not ill.any():
        return 0 * places.sum()
    places, inside = places[ill], inside[ill]
    places = places * torch.where(inside, 1.0, margin)
    places = (places / (places.detach().amax((1, 2, 3), keepdim=True) + 1e-30)) ** POWER
    whole, found = (part.sum((1, 2, 3)) + 1e-9 for part in (places, places * inside))
    return torch.log(whole / found).sum() / POWER / len(mask)


def unfair(size: Tensor, kinds: Tensor, makes: Tensor) -> Tensor:
    """Take the log of how far a kind's share falls short of `FAIR` times its share of the area.

    Both are shares of what all kinds have together; an even map costs nothing. Only those that make
    the grade by themselves, bool [N, K], have to have theirs.
    """
    mask = kinds.any(1, keepdim=True)
    inside, whole = ((size * part).sum((2, 3)) for part in (kinds, mask))
    area, areas = (part.float().sum((2, 3)) for part in (kinds, mask))
    floor = 1e-6 * whole.detach() + 1e-30
    owed = FAIR * area / areas.clamp(min=1)
    short = torch.log((owed * whole + floor) / (inside + floor)).clamp(min=0)
    return (short * makes).sum(1).mean()
