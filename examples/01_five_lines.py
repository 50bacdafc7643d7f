"""Why did the network grade this retina so? Five lines, from the file to the pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

import onnxexplain as ox

MODELS = Path(__file__).parents[1] / "models"

# A photograph as the model takes it: [1,3,640,640], normalised.
pixels = np.asarray(Image.open(MODELS / "dr_retina.png").convert("RGB"), np.float32) / 255
mean, std = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
x = ((pixels - mean) / std).transpose(2, 0, 1)[None]

model = ox.load(MODELS / "dr640.onnx")
e = ox.explain(model, x)  # score propagation of the strongest class
print(e)
print(f"grade {e.target[0]} ({e.labels[e.target[0]]}), score {e.score[0]:.3f}")
print(f"pixels {e.attributions['input'].sum():.3f} + constants {e.constant[0]:.3f}")
print(f"what is left, relative: {e.residual[0]:.1e}")
heatmap = e.heatmap()[0]  # [640,640]: adds up to the score
row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
print(f"the pixel that speaks most for it: row {row}, column {column}")
