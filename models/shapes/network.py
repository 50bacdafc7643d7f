"""A small network that tells which of five kinds of shape are in a picture."""

from collections import OrderedDict

from torch import Tensor, nn

from models.draft import Draft
from models.shapes.picture import KINDS

WIDTHS = (16, 32, 48, 48, 48)
POOLED = 2  # so many of the layers halve the map behind them


class Layer(nn.Sequential):
    """A convolution, a batch normalisation and a ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                norm=nn.BatchNorm2d(outputs),
                relu=nn.ReLU(),
            )
        )


class Network(nn.Module):
    """Five 3x3 layers, two poolings, a mean over 24x24 positions of 4 pixels, and a line."""

    def __init__(self) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False), 1):
            self.add_module(f"layer{i}", Layer(inputs, outputs))
        self.kinds = nn.Linear(WIDTHS[-1], len(KINDS))

    def forward(self, image: Tensor) -> Tensor:
        """Score the kinds, [N, 5], before the sigmoid."""
        return self.score(self.maps(image))

    def score(self, maps: Tensor) -> Tensor:
        """Score the last maps."""
        return self.kinds(maps.mean((2, 3)))

    def maps(self, image: Tensor) -> Tensor:
        """Return the last maps, [N, 48, 24, 24]."""
        x = image
        for i in range(1, len(WIDTHS) + 1):
            x = getattr(self, f"layer{i}")(x)
            if i <= POOLED:
                x = nn.functional.max_pool2d(x, 2)
        return x


def draw(draft: Draft) -> str:
    """Write the nodes of the network, with the sigmoid, and return the name of what it gives."""
    x = "input"
    for i in range(1, len(WIDTHS) + 1):
        x = draft.norm(f"layer{i}.norm", draft.conv(f"layer{i}.conv", x))
        x = draft.add("Relu", f"layer{i}.relu", x)
        if i <= POOLED:
            x = draft.pool("MaxPool", f"pool{i}", x, side=2, stride=2)
    x = draft.add("Flatten", "flatten", draft.add("GlobalAveragePool", "pool", x), axis=1)
    return draft.add("Sigmoid", "sigmoid", draft.linear("kinds", x))
