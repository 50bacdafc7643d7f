"""Write a trained DenseNet as an ONNX file, its normalisations as nodes of their own.

`python -m models.boxes.export 58k boxes58k.npz models/boxes58k.onnx` also examines the network on
1,000 pictures that neither trained nor chose it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from models.boxes.network import SHAPES, DenseNet, Shape
from models.boxes.picture import CROP, LABELS, TEST
from models.boxes.train import examine
from models.draft import Draft, wilson

PREPROCESS = {"size": [CROP, CROP], "mode": "crop"}
NOTE = "Trained on drawn circles and squares only (models/boxes.md)."


def load(path: Path, shape: Shape) -> DenseNet:
    """Read the weights that training wrote into a network ready to score."""
    with np.load(path) as weights:
        state = {key: torch.from_numpy(weights[key]) for key in weights.files}
    network = DenseNet(shape)
    missing, unknown = network.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unknown:
        raise ValueError(f"{path}: lacks {missing} and has unknown {unknown}; train it again")
    return network.eval()


def draw(draft: Draft, shape: Shape) -> str:
    """Write the nodes of the network and return the name of its scores."""
    x = draft.conv("features.conv0", "input", stride=2)
    x = draft.add("Relu", "features.relu0", draft.norm("features.norm0", x))
    x = draft.pool("MaxPool", "features.pool0", x, side=3, stride=2, pad=1)
    for i, layers in enumerate(shape.blocks, 1):
        for j in range(1, layers + 1):
            x = _layer(draft, f"features.denseblock{i}.denselayer{j}", x)
        if i < len(shape.blocks):
            layer = f"features.transition{i}"
            x = draft.add("Relu", f"{layer}.relu", draft.norm(f"{layer}.norm", x))
            x = draft.conv(f"{layer}.conv", x)
            if i <= shape.pools:
                x = draft.pool("AveragePool", f"{layer}.pool", x, side=2, stride=2)
    x = draft.add("Relu", "relu", draft.norm("features.norm5", x))
    x = draft.add("Flatten", "flatten", draft.add("GlobalAveragePool", "pool", x), axis=1)
    return draft.linear("classifier", x)


def _layer(draft: Draft, layer: str, x: str) -> str:
    new = x
    for i in (1, 2):
        new = draft.norm(f"{layer}.norm{i}", new)
        new = draft.conv(f"{layer}.conv{i}", draft.add("Relu", f"{layer}.relu{i}", new))
    return draft.add("Concat", layer, x, new, axis=1)


def export(weights: Mapping[str, np.ndarray], shape: Shape, path: Path) -> None:
    """Write the file."""
    draft = Draft(path.stem, weights)
    draft.write(
        path,
        (3, CROP, CROP),
        draw(draft, shape),
        labels=LABELS,
        preprocess=PREPROCESS,
        note=NOTE,
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("weights", type=Path, help="what train.py wrote")
    parser.add_argument("out", type=Path, help="the ONNX file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = SHAPES[options.shape]
    network = load(options.weights, shape)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    export(weights, shape, options.out)
    n = 1000
    loss, accuracy = examine(network, range(TEST, TEST + n))
    low, high = wilson(round(accuracy * n), n)
    parameters = sum(p.numel() for p in network.parameters())
    print(
        f"{options.out}: {parameters:,} parameters, accuracy {accuracy:.3f} ({low:.3f} to "
        f"{high:.3f}) on {n} pictures never seen, loss {loss:.4f}"
    )


if __name__ == "__main__":
    main()
