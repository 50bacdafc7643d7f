"""The network that grades a retina from 0 to 4, and its weights as a plain npz file, or as ONNX.

de la Torre, Valls and Puig, "A deep learning interpretable classifier for diabetic retinopathy
disease grading" (Neurocomputing 2020). Every layer is named after its receptive field.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

MEAN = (0.382, 0.265, 0.189)
STD = (0.290, 0.210, 0.170)
GRADES = 5
WIDTHS = (16, 16, 32, 32) + (64,) * 11
FIELDS = (3, 5, 9, 13, 21, 29, 45, 61, 93, 125, 189, 253, 381, 509, 637)
LOWER = 10  # layers up to rf125, whose fields are about as large as a lesion


class Layer(nn.Sequential):
    """A convolution, a batch normalisation and a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, pad: int = 1) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(inputs, outputs, kernel, padding=pad),
                bn=nn.BatchNorm2d(outputs, eps=1e-5),
                relu=nn.ReLU(),
            )
        )
        nn.init.normal_(self.conv.weight, std=(2 / (kernel**2 * outputs)) ** 0.5)
        nn.init.zeros_(self.conv.bias)


class Network(nn.Module):
    """Fourteen 3x3 layers with a pooling after every second, a 2x2 layer, a mean and a line.

    The last mean runs over whatever positions remain, 4x4 of them for a 640x640 image, so any
    square image of 256 pixels or more can be graded.
    """

    def __init__(self) -> None:
        super().__init__()
        for field, inputs, outputs in zip(FIELDS, (3, *WIDTHS), WIDTHS, strict=False):
            last = field == FIELDS[-1]
            kernel, pad = (2, 0) if last else (3, 1)
            self.add_module(f"rf{field}", Layer(inputs, outputs, kernel, pad))
        self.lc = nn.Linear(WIDTHS[-1], GRADES)
        nn.init.normal_(self.lc.weight, std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """Score the five grades of a batch of normalised images."""
        return self.grade(self.rest(self.lesions(image)))

    def parts(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the parameters of the layers up to rf125, and of those above."""
        lower, upper = [], []
        for name, parameter in self.named_parameters():
            low = any(name.startswith(f"rf{field}.") for field in FIELDS[:LOWER])
            (lower if low else upper).append(parameter)
        return lower, upper

    def lesions(self, x: Tensor) -> Tensor:
        """Run the layers up to rf125."""
        return self._run(x, range(LOWER))

    def rest(self, x: Tensor) -> Tensor:
        """Run the layers above rf125."""
        return self._run(nn.functional.max_pool2d(x, 2), range(LOWER, len(FIELDS)))

    def grade(self, x: Tensor) -> Tensor:
        """Average the 64 features over the image and weigh them into five scores."""
        return self.lc(x.mean((2, 3)))

    def _run(self, x: Tensor, layers: range) -> Tensor:
        for i in layers:
            x = getattr(self, f"rf{FIELDS[i]}")(x)
            if i % 2 and i != layers[-1]:
                x = nn.functional.max_pool2d(x, 2)
        return x


def normalise(images: np.ndarray) -> Tensor:
    """Turn uint8 images [N, H, W, 3] into the normalised batch [N, 3, H, W] the network reads."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def save(network: Network, path: Path) -> None:
    """Write the weights as npz, first under another name so that nobody reads half a file."""
    weights = {
        key: value.detach().float().cpu().numpy()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, **weights)
    unfinished.replace(path)


def load(path: Path) -> Network:
    """Read the weights that `save` or export.py wrote into a network ready to grade."""
    network = Network()
    if path.suffix == ".onnx":
        held = onnx.load(path).graph.initializer
        weights = {one.name: onnx.numpy_helper.to_array(one).copy() for one in held}
    else:
        with np.load(path) as file:
            weights = dict(file)
    state = {key: torch.from_numpy(weight) for key, weight in weights.items()}
    missing, unknown = network.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unknown:
        raise ValueError(
            f"{path}: lacks {missing} and has unknown {unknown}: not the weights of this network"
        )
    return network.eval()
