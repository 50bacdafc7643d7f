"""What has the network learned: a square, an edge, a corner, or merely how much is white?

`python -m models.boxes.probe models/boxes58k.onnx probe.png` shows it pictures of kinds that it was
not trained on, prints the two scores of each, and draws them with their maps.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import onnxexplain as ox
from models.boxes.picture import CROP

METHODS = ("cam", "grad-cam", "score-propagation", "guided-backprop")
SMALL = ((30, 40), (60, 170), (110, 25), (180, 50), (195, 120), (150, 190), (40, 105), (100, 200))


def probes() -> dict[str, np.ndarray]:
    """Draw the pictures, uint8 [224, 224] each."""
    found: dict[str, np.ndarray] = {}
    for name, shapes in SHAPES.items():
        sheet = Image.new("L", (CROP, CROP))
        draw = ImageDraw.Draw(sheet)
        for kind, where in shapes:
            if kind == "open":
                draw.rectangle(where, outline=255, width=3)
            else:
                getattr(draw, kind)(where, fill=255)
        found[name] = np.array(sheet)
    return found


Drawn = tuple[str, tuple[int, ...]]

CIRCLES: list[Drawn] = [("ellipse", (x, y, x + 12, y + 12)) for x, y in SMALL]
SHAPES: dict[str, list[Drawn]] = {
    "nothing": [],
    "a circle": [("ellipse", (90, 90, 130, 130))],
    "a square": [("rectangle", (90, 90, 130, 130))],
    "a line": [("rectangle", (90, 108, 130, 110))],
    "a long line": [("rectangle", (0, 108, CROP - 1, 110))],
    "an open square": [("open", (90, 90, 130, 130))],
    "a bar": [("rectangle", (90, 102, 130, 116))],
    "a diamond": [("polygon", (110, 82, 138, 110, 110, 138, 82, 110))],
    "a triangle": [("polygon", (90, 130, 110, 90, 130, 130))],
    "small circles": CIRCLES,
    "a big square among them": [*CIRCLES, ("rectangle", (80, 80, 150, 150))],
    "a big circle among them": [*CIRCLES, ("ellipse", (80, 80, 150, 150))],
}


def ready(image: np.ndarray) -> np.ndarray:
    """Make what the network takes: float32 [1, 3, 224, 224] in 0..1."""
    return np.repeat(image[None, None].astype(np.float32) / 255, 3, 1)


def main() -> None:
    """Read the command line."""
    from matplotlib import pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file that export.py wrote")
    parser.add_argument("figure", type=Path, help="the figure to draw")
    options = parser.parse_args()
    shown = probes()
    explainers = {name: ox.Explainer(options.model, name, threads=1) for name in METHODS}
    size = (1.5 * len(shown), 1.6 * (1 + len(METHODS)))
    page, axes = plt.subplots(1 + len(METHODS), len(shown), figsize=size, layout="constrained")
    for column, (name, image) in zip(axes.T, shown.items(), strict=True):
        column[0].imshow(image, cmap="gray", vmin=0, vmax=255)
        for axis, (method, explainer) in zip(column[1:], explainers.items(), strict=True):
            e = explainer(ready(image), target=1)
            heat = e.heatmap()[0]
            # Few pixels hold most of a fine map: a little below the maximum the others show, too.
            limit = np.percentile(np.abs(heat), 99.8) or 1.0
            axis.imshow(image, cmap="gray", vmin=0, vmax=400)
            axis.imshow(heat, cmap="seismic", vmin=-limit, vmax=limit, alpha=0.7)
            if name == next(iter(shown)):
                axis.set_ylabel(method, fontsize=7)
        circles, square = (float(v) for v in e.logits[0])
        print(f"{name:24} circles only {circles:8.2f}   with a square {square:8.2f}")
        column[0].set_title(f"{name}\n{square - circles:+.1f}", fontsize=7)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    page.savefig(options.figure, dpi=90)


if __name__ == "__main__":
    main()
