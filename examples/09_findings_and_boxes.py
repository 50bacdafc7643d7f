"""Several findings in one picture: where is each of them, and how sure is the network?

What the chest X-ray application of TobiasSchmidtDE/DeepL-MedicalImaging shows, on drawn shapes:
class-selective relevance maps of each class and of all, boxes in one colour per class, Grad-CAM,
guided Grad-CAM, CNN fixations, and two networks asked together.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import onnxexplain as ox

MODELS = Path(__file__).parents[1] / "models"
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
OUT.mkdir(parents=True, exist_ok=True)


def taken(picture: Image.Image) -> np.ndarray:
    """Return a picture as the models take it: [1, 3, H, W], 0 to 1."""
    return np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255


# ----- A picture with a circle, a ring, a triangle and a square -----

large = Image.new("RGB", (384, 384), (60, 90, 120))  # drawn large and reduced: smooth edges
pen = ImageDraw.Draw(large)
pen.ellipse((32, 32, 136, 136), fill=(230, 200, 60))
pen.ellipse((240, 40, 344, 144), outline=(240, 120, 160), width=24)
pen.polygon((120, 232, 176, 344, 56, 336), fill=(120, 220, 120))
pen.rectangle((248, 248, 328, 328), fill=(220, 80, 60))
grain = np.random.default_rng(0).normal(0, 6 / 255, (1, 3, 96, 96))  # as in what it learned from
x = np.clip(taken(large.reduce(4)) + grain, 0, 1).astype(np.float32)

# ----- How likely is each class, and what does that rest on? -----

model = ox.load(MODELS / "shapes.onnx")
crm = ox.Explainer(model, "crm")
odds = crm(x).probabilities[0]
print(", ".join(f"{label} {p:.0%}" for label, p in zip(model.labels, odds, strict=True)))
found = [int(c) for c in np.flatnonzero(odds > 0.4)]

for c in found:
    crm(x, target=c).plot(boxes=0.3, min_size=8).savefig(OUT / f"crm_{model.labels[c]}.png")

together = ox.explain(model, x, "crm", combined=True)
together.plot(boxes=0.1, min_size=8).savefig(OUT / "crm_all_classes.png")

e = crm(x, targets=found)
e.plot(boxes=0.3, min_size=8).savefig(OUT / "crm_boxes.png")
for box in e.boxes(0.3, min_size=8):  # it knows a triangle by its corners, and each has a box
    place = f"columns {box['x0']} to {box['x1']}, rows {box['y0']} to {box['y1']}"
    print(f"{box['label']}, {box['probability']:.0%}: {place}")

# ----- The same by other methods -----

for method in ("grad-cam", "guided-grad-cam"):
    ox.explain(model, x, method, targets=found).plot().savefig(OUT / f"{method}.png")

# Every channel that speaks for a class leads to a point; those that do so weakly are left out.
e = ox.explain(model, x, "cnn-fixations", targets=found, keep=0.8)
e.plot(boxes=0.4, min_size=8).savefig(OUT / "cnn-fixations.png")
for c, (points,), (heat,) in zip(found, e.points, e.heatmap(), strict=True):
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    print(f"{model.labels[c]}: {len(points)} fixations, densest at row {row}, column {column}")

# ----- Two networks asked together -----

paper = Image.new("RGB", (224, 224))
pen = ImageDraw.Draw(paper)
for circle in ((30, 40, 70, 80), (150, 24, 190, 64), (40, 150, 62, 172)):
    pen.ellipse(circle, fill="white")
square = (112, 112, 156, 156)  # x0, y0, x1, y1: the last column and row lie outside
pen.rectangle((112, 112, 155, 155), fill="white")

pair = [ox.load(MODELS / f"{name}.onnx") for name in ("boxes58k", "boxes444k")]
e = ox.explain(pair[0], taken(paper), "crm", target="with a square", ensemble=pair[1:])
e.plot(boxes=0.3, known=square).savefig(OUT / "ensemble.png")
for who, answer in zip(("the smaller", "the larger", "both"), (*e.members, e), strict=True):
    box = answer.boxes(0.3)[0]
    place = f"columns {box['x0']} to {box['x1']}, rows {box['y0']} to {box['y1']}"
    print(f"{who}: {box['label']}, {box['probability']:.1%}, {place}")
