"""Is there a square among the circles, and does the network look at it?

The figures of choosehappy's DenseNet notebook (after utkuozbulak), for networks of both its sizes:
gradients and guided gradients, Grad-CAM and guided Grad-CAM of every layer, with the square that
the answer should rest on outlined in green.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import onnxexplain as ox

MODELS = Path(__file__).parents[1] / "models"
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
OUT.mkdir(parents=True, exist_ok=True)

CIRCLES = [(22, 30, 58, 66), (150, 18, 182, 50), (70, 96, 92, 118), (30, 160, 76, 206)]
SQUARE = (132, 116, 170, 154)  # x0, y0, x1, y1: the last column and row lie outside
x0, y0, x1, y1 = SQUARE

paper = Image.new("L", (224, 224))
for circle in CIRCLES:
    ImageDraw.Draw(paper).ellipse(circle, fill=255)
ImageDraw.Draw(paper).rectangle((x0, y0, x1 - 1, y1 - 1), fill=255)
x = np.repeat(np.asarray(paper, np.float32)[None, None] / 255, 3, axis=1)


def inside(heat: np.ndarray) -> float:
    """The part of a map's positive values that lies on the square or within 3 pixels of it."""
    positive = np.maximum(heat[0], 0)
    return positive[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3].sum() / max(positive.sum(), 1e-12)


print(f"the square and 3 pixels around it are {inside(np.ones((1, 224, 224))):.1%} of the picture")
for name in ("boxes58k", "boxes444k"):
    model = ox.load(MODELS / f"{name}.onnx")
    for method in ("gradient", "guided-backprop"):
        e = ox.explain(model, x, method, target="with a square")
        e.plot(kind="signs", known=SQUARE).savefig(OUT / f"{name}_{method}.png")
        print(f"{name}, {method}: {inside(e.heatmap()):.0%} of what raises the score is there")
    for method in ("grad-cam", "guided-grad-cam"):
        e = ox.explain(model, x, method, target="with a square", layer="all")
        e.plot(known=SQUARE).savefig(OUT / f"{name}_{method}_of_every_layer.png")
        there = {layer: inside(e.heatmap(layer=layer)) for layer in e.all_layers}
        best = max(there, key=there.get)
        last = e.all_layers[-1]
        print(f"{name}, {method}: {there[last]:.0%} at the last of {len(there)} layers, {last},")
        print(f"  and at most {there[best]:.0%}, at {best}")
