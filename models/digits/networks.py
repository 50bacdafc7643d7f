"""The networks of the notebook "visualising CNNs" (understanding_cnn), cut down to 8x8 pixels.

Each is told twice: as PyTorch trains it, and as the ONNX nodes that its weights become.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from models.draft import Draft

MAPS = (16, 32, 64)  # the notebook's are 32, 64, 128, on 28x28 pixels
HIDDEN = 64  # there 625
LINES = (48, 20)  # there 512, 100


@dataclass(frozen=True)
class Kind:
    """One of the networks: how it is made, how its nodes are written, how it is trained."""

    make: Callable[[], nn.Sequential]
    draw: Callable[[Draft], str]
    epochs: int
    rate: float


# ----- Convolutions -----


def cnn() -> nn.Sequential:
    """Three times convolution, ReLU, padded pooling and dropout: 8, 5, 3, 2 pixels; two lines."""
    parts: list[tuple[str, nn.Module]] = []
    for i, (before, after) in enumerate(zip((1, *MAPS), MAPS, strict=False), 1):
        parts += [
            (f"conv{i}", nn.Conv2d(before, after, 3, padding=1)),
            (f"relu{i}", nn.ReLU()),
            (f"pool{i}", nn.MaxPool2d(2, 2, padding=1)),
            (f"dropout{i}", nn.Dropout(0.3)),
        ]
    parts += [
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(4 * MAPS[-1], HIDDEN)),
        ("relu4", nn.ReLU()),
        ("dropout4", nn.Dropout(0.5)),
        ("fc2", nn.Linear(HIDDEN, 10)),
    ]
    return nn.Sequential(OrderedDict(parts))


def draw_cnn(draft: Draft) -> str:
    """Write the nodes of `cnn`; dropout does nothing once it is trained."""
    x = "input"
    for i in range(1, len(MAPS) + 1):
        x = draft.add("Relu", f"relu{i}", draft.conv(f"conv{i}", x))
        x = draft.pool("MaxPool", f"pool{i}", x, side=2, stride=2, pad=1)
    x = draft.linear("fc1", draft.add("Flatten", "flatten", x, axis=1))
    return draft.linear("fc2", draft.add("Relu", "relu4", x))


# ----- Lines alone -----


def mlp(relu: bool) -> nn.Sequential:
    """Three linear layers, with or without a ReLU between them."""
    parts: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for i, (before, after) in enumerate(zip((64, *LINES), (*LINES, 10), strict=True), 1):
        parts.append((f"dense{i}", nn.Linear(before, after)))
        if relu and i <= len(LINES):
            parts.append((f"relu{i}", nn.ReLU()))
    return nn.Sequential(OrderedDict(parts))


def draw_mlp(draft: Draft, relu: bool) -> str:
    """Write the nodes of `mlp`."""
    x = draft.add("Flatten", "flatten", "input", axis=1)
    for i in range(1, len(LINES) + 2):
        x = draft.linear(f"dense{i}", x)
        if relu and i <= len(LINES):
            x = draft.add("Relu", f"relu{i}", x)
    return x


KINDS = {
    "digits_cnn": Kind(cnn, draw_cnn, epochs=150, rate=0.02),
    "digits_mlp": Kind(
        lambda: mlp(relu=False), lambda d: draw_mlp(d, relu=False), epochs=100, rate=0.05
    ),
    "digits_relu": Kind(
        lambda: mlp(relu=True), lambda d: draw_mlp(d, relu=True), epochs=100, rate=0.05
    ),
}
