"""How much of an explanation goes astray, and how that changes with the weights.

The explanation is input * gradient. The gradient of something made of a gradient takes another way
here than differentiating twice: see `along`.
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.dr.network import FIELDS, Network

PEAK = 12  # pixels: what pointing at a lesion means
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


def astray(given: Tensor, mask: Tensor) -> Tensor:
    """Measure how much of an explanation lies outside the masks [N, 1, H, W].

    That is how much of its absolute value does, and, so that its peaks are right and not only most
    of it, how much of the squares of what speaks for the grade in places of `PEAK` pixels.
    """
    peaks = functional.avg_pool2d(given.clamp(min=0), PEAK, PEAK // 3).square()
    near = functional.max_pool2d(mask.float(), PEAK, PEAK // 3)
    return outside(given.abs(), mask) + outside(peaks, near) / 2


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
