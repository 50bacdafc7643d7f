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

# ----- A picture with a circle, a ring, a triangle and a square -----

large = Image.new("RGB", (384, 384), (60, 90, 120))  # drawn large and reduced: smooth edges
pen = ImageDraw.Draw(large)
pen.ellipse((32, 32, 136, 136), fill=(230, 200, 60))
pen.ellipse((240, 40, 344, 144), outline=(240, 120, 160), width=24)
pen.polygon((120, 232, 176, 344, 56, 336), fill=(120, 220, 120))
pen.rectangle((248, 248, 328, 328), fill=(220, 80, 60))
x = np.asarray(large.reduce(4), np.float32).transpose(2, 0, 1)[None] / 255

# ----- How likely is each class, and what does that rest on? -----

model = ox.load(MODELS / "shapes.onnx")
crm = ox.Explainer(model, "crm")
odds = crm(x).probabilities[0]
print(", ".join(f"{label} {p:.0%}" for label, p in zip(model.labels, odds, strict=True)))
found = [int(c) for c in np.flatnonzero(odds > 0.4)]

for c in found:
    crm(x, target=c).plot(boxes=0.3).savefig(OUT / f"crm_{model.labels[c]}.png")

together = ox.explain(model, x, "crm", combined=True)
together.plot(boxes=0.3).savefig(OUT / "crm_all_classes.png")

e = crm(x, targets=found)
e.plot(boxes=0.3, min_size=8).savefig(OUT / "crm_boxes.png")
for box in e.boxes(0.3, min_size=8):
    place = f"columns {box['x0']} to {box['x1']}, rows {box['y0']} to {box['y1']}"
    print(f"{box['label']}, {box['probability']:.0%}: {place}")

# ----- The same by other methods -----

for method in ("grad-cam", "guided-grad-cam"):
    ox.explain(model, x, method, targets=found).plot().savefig(OUT / f"{method}.png")

# Every channel that speaks for a class at all leads to a point; the weakest tenth is left out.
e = ox.explain(model, x, "cnn-fixations", targets=found, keep=0.9)
e.plot(boxes=0.4, min_size=8).savefig(OUT / "cnn-fixations.png")
for c, (points,), (heat,) in zip(found, e.points, e.heatmap(), strict=True):
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    print(f"{model.labels[c]}: {len(points)} fixations, densest at row {row}, column {column}")

# ----- Two networks asked together -----

photograph = Image.open(MODELS / "boxes.png").convert("RGB")
x = np.asarray(photograph, np.float32).transpose(2, 0, 1)[None] / 255
pair = [MODELS / "boxes58k.onnx", MODELS / "boxes444k.onnx"]
e = ox.explain(pair[0], x, "crm", target="with a square", ensemble=pair[1:])
e.plot(boxes=0.3).savefig(OUT / "ensemble.png")
for member in (*e.members, e):
    who = "both" if member is e else Path(member.model.source).stem
    box = member.boxes(0.3)[0]
    print(f"{who}: a square with {member.probabilities[0, 1]:.1%}, rows {box['y0']} to {box['y1']}")
