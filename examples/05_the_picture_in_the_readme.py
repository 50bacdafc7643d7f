"""Draw the picture that stands at the top of the README."""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import onnxexplain as ox
from onnxexplain.figures.panels import Panel, Scale, png, sheet
from onnxexplain.figures.plot import marked

MODELS = Path(__file__).parents[1] / "models"
WIDTH = 1500  # pixels: what a page shows, and no more to load

photograph = np.asarray(Image.open(MODELS / "dr_retina.png").convert("RGB"))
mean, std = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
x = ((photograph / np.float32(255) - mean) / std).transpose(2, 0, 1)[None]

e = ox.explain(MODELS / "dr640.onnx", x)
heatmap, where = e.heatmap()[0], e.two_sigma()[0]
label = e.labels[e.target[0]]
panels = [
    Panel(photograph, "a painted retina"),
    Panel(heatmap, f"what adds up to its score of {e.score[0]:.2f}"),
    Panel(marked(photograph, where), "its pixels beyond two deviations"),
]
figure = sheet(panels, Scale.signed([heatmap], None, "share of the score"), f"Graded 4, {label}", 3)
picture = Path(sys.argv[1] if len(sys.argv) > 1 else "retina.png")
with Image.open(BytesIO(png(figure))) as drawn:
    size = WIDTH, round(WIDTH * drawn.height / drawn.width)
    drawn.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(picture, optimize=True)
print(f"{picture}: {picture.stat().st_size:,} bytes")
