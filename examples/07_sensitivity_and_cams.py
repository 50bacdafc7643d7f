"""Which pixels is a digit's score sensitive to, and where does a network see a cat?

The figures of zhangrong1722/understanding_cnn: the model as a table, sensitivity analysis of one
image per digit, and class activation maps. The maps are of SqueezeNet's, on photographs that it
looks for in $ONNXEXPLAIN_DATA.
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import onnxexplain as ox

CHECKOUT = Path(__file__).parents[1]
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
OUT.mkdir(parents=True, exist_ok=True)

# ----- The model, and one image of every digit -----

digits = ox.load(CHECKOUT / "models" / "digits_cnn.onnx")
print(digits.summary())

held = np.load(CHECKOUT / "models" / "digits.npz")
first = [int(np.argmax(held["labels"] == digit)) for digit in range(10)]
x = held["images"][first][:, None] / np.float32(16)

# The page takes the gradient of the sum of all ten scores, where much cancels out: what raises one
# digit lowers others. What a digit is read off says the gradient of its own score.
for name, target in (("sum", "sum"), ("own", np.arange(10))):
    e = ox.explain(digits, x, "gradient", part="squared", target=target)
    e.plot().savefig(OUT / f"sensitivity_{name}.png")
    whole = e.heatmap().sum(axis=(1, 2))
    print(f"squared gradient, {name}: from {whole.min():.3g} to {whole.max():.3g}")

# ----- Where a network sees its class -----


SQUEEZENET = "squeezenet_imagenet_fp16.onnx"


def photographs() -> list[Path]:
    root = Path(os.environ.get("ONNXEXPLAIN_DATA") or CHECKOUT.parent / "shared")
    found = [*root.glob("*.jpg"), *root.glob("data/*.jpg")]
    return sorted(path for path in found if (path.parent / SQUEEZENET).is_file())


paths = photographs()
if not paths:
    print("no photographs and no SqueezeNet here ($ONNXEXPLAIN_DATA): no class activation maps")
    sys.exit()

seen = [np.asarray(ImageOps.fit(Image.open(p).convert("RGB"), (224, 224))) for p in paths]
x = np.stack(seen)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)  # BGR, 0 to 255
squeezenet = ox.load(paths[0].parent / SQUEEZENET)

# SqueezeNet weighs its last maps before it takes their means, so its scores are explained there.
where = {"output": "conv10_1", "layer": "fire9/concat_2"}
for method in ("cam", "cam-topk", "grad-cam"):
    e = ox.explain(squeezenet, x, method, **where)
    e.plot(seen).savefig(OUT / f"{method}.png")
    for path, c, heat in zip(paths, e.target, e.heatmap(), strict=True):
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        print(f"{method}, {path.stem}: class {c}, strongest at row {row}, column {column}")
