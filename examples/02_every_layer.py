"""The score at every layer: what arrives there, what the layer's own constants add."""

from pathlib import Path

import numpy as np
from PIL import Image

import onnxexplain as ox

MODELS = Path(__file__).parents[1] / "models"

pixels = np.asarray(Image.open(MODELS / "dr_retina.png").convert("RGB"), np.float32) / 255
mean, std = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
x = ((pixels - mean) / std).transpose(2, 0, 1)[None]

e = ox.explain(MODELS / "dr640.onnx", x, targets="all")
print("class      " + " ".join(f"{label[:14]:>15}" for label in e.labels))
print("score      " + " ".join(f"{score[0]:15.4f}" for score in e.score))
total = np.zeros_like(e.score)
for name, added in reversed(e.constants.items()):
    total += added
    print(f"{name[:34]:36}" + " ".join(f"{value[0]:10.4f}" for value in added))
left = e.score - total - e.attributions["input"].sum(axis=(2, 3, 4))
print("not accounted for: " + " ".join(f"{value[0]:.1e}" for value in left))

layer = e.layers["/rf61/Relu_output_0"]
field = layer.receptive_field[0]
print(f"{layer.name}: each unit sees {field.size:g} pixels, one every {field.stride:g}")
carried = layer.to_input(layer.constant_map)  # [5,1,640,640]: its constants, on the photograph
assert np.allclose(carried.sum(axis=(2, 3)), layer.constant_map.sum(axis=(2, 3)), rtol=1e-4)
