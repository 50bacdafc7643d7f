"""DenseNet, small: the two networks of the notebook "circles and boxes".

Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks" (CVPR 2017).
Layers have the names that torchvision gives them.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDER = 4  # a bottleneck is this many growths wide


@dataclass(frozen=True)
class Shape:
    """What makes one DenseNet another.

    Attributes
    ----------
    growth
        channels that every layer adds.
    blocks
        layers in each dense block.
    start
        channels of the first convolution.
    pools
        how many of the transitions between blocks halve the map; the later ones do not.
    """

    growth: int
    blocks: tuple[int, ...]
    start: int
    pools: int = 3


SHAPES = {
    # The notebook's pools three times. Its last maps have positions of 32 pixels, whose middles lie
    # outside a small square even if the right one is chosen; at 16 pixels one always lies within 3.
    "58k": Shape(growth=8, blocks=(4, 4, 4, 4), start=2, pools=2),
    "444k": Shape(growth=8, blocks=(6, 12, 24, 16), start=8),
}


class DenseLayer(nn.Module):
    """Normalise, squeeze by 1x1, normalise, add `growth` channels by 3x3."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, WIDER * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(WIDER * growth)
        self.conv2 = nn.Conv2d(WIDER * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what came in with the new channels behind it."""
        new = self.conv1(functional.relu(self.norm1(x), inplace=True))
        new = self.conv2(functional.relu(self.norm2(new), inplace=True))
        return torch.cat([x, new], 1)


class Transition(nn.Module):
    """Normalise, halve the channels by 1x1, and halve the map."""

    def __init__(self, channels: int, pool: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Return half the channels, on half the map where it pools."""
        x = self.conv(functional.relu(self.norm(x), inplace=True))
        return functional.avg_pool2d(x, 2) if self.pool else x


class DenseNet(nn.Module):
    """Scores of two classes from images [N, 3, H, W] in 0..1."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        channels = shape.start
        parts: list[tuple[str, nn.Module]] = [
            ("conv0", nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)),
            ("norm0", nn.BatchNorm2d(channels)),
            ("relu0", nn.ReLU()),
            ("pool0", nn.MaxPool2d(3, stride=2, padding=1)),
        ]
        for i, layers in enumerate(shape.blocks, 1):
            block = OrderedDict()
            for j in range(1, layers + 1):
                block[f"denselayer{j}"] = DenseLayer(channels, shape.growth)
                channels += shape.growth
            parts.append((f"denseblock{i}", nn.Sequential(block)))
            if i < len(shape.blocks):
                parts.append((f"transition{i}", Transition(channels, i <= shape.pools)))
                channels //= 2
        parts.append(("norm5", nn.BatchNorm2d(channels)))
        self.features = nn.Sequential(OrderedDict(parts))
        self.classifier = nn.Linear(channels, 2)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Score a batch: [N, 2]."""
        return self.score(self.maps(image))

    def maps(self, image: Tensor) -> Tensor:
        """Return the last maps, whose means the classifier weighs."""
        return functional.relu(self.features(image))

    def score(self, maps: Tensor) -> Tensor:
        """Score the last maps."""
        return self.classifier(maps.mean((2, 3)))

    def class_map(self, maps: Tensor) -> Tensor:
        """Weigh the last maps as the square's score does against the other's: [N, h, w]."""
        weights = self.classifier.weight[1] - self.classifier.weight[0]
        return (maps * weights[:, None, None]).sum(1)
