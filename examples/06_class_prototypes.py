"""What does a network take for a 3? Class prototypes of a network of linear layers, on MNIST.

The network, its data and the settings are those of zhangrong1722/understanding_cnn. Draws the ten
digits, and turns an 8 into a 3 and a 1. Looks for the files in $ONNXEXPLAIN_DATA.
"""

import gzip
import math
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import onnxexplain as ox
from onnxexplain.figures.panels import png

CHECKOUT = Path(__file__).parents[1]
STEPS = 10_000


def folder() -> Path | None:
    """Where the MNIST files lie, if they are here."""
    root = Path(os.environ.get("ONNXEXPLAIN_DATA") or CHECKOUT.parent / "shared")
    places = (root / "mnist", root / "data" / "mnist")
    return next((p for p in places if (p / "linear_784_512_100_10.pkl").is_file()), None)


# ----- The network: torch's weights, read without torch -----


class Weights(pickle.Unpickler):
    """Reads a state dict of torch's first file format, and makes nothing but arrays of it."""

    def persistent_load(self, known):
        return known[2]  # the key of a storage, whose numbers follow later

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name == "FloatStorage":
            return name
        if module == "torch._utils" and name.startswith("_rebuild_tensor"):
            return lambda storage, offset, size, *_: (storage, offset, size)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a state dict")


def weights(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        _magic, _version, _system, tensors, keys = (Weights(file).load() for _ in range(5))
        stored = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            stored[key] = np.frombuffer(file.read(4 * count), "<f4")
    return {
        name: stored[key][offset : offset + math.prod(size)].reshape(size)
        for name, (key, offset, size) in tensors.items()
    }


def network(held: dict[str, np.ndarray]) -> onnx.ModelProto:
    """784 to 512 to 100 to 10, with nothing in between: one linear map, all told."""
    nodes = [helper.make_node("Flatten", ["input"], ["h0"])]
    for i in (1, 2, 3):
        inputs = [f"h{i - 1}", f"dense{i}.weight", f"dense{i}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [f"h{i}"], f"dense{i}", transB=1))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("h3", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


# ----- The data -----


def digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images [N,1,28,28], white ink on black in 0..1, and what they are of."""
    images = gzip.decompress((path / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((path / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28) / np.float32(255)
    return pixels, np.frombuffer(labels, np.uint8)


def main() -> None:
    path = folder()
    if path is None:
        print("the MNIST files are not here ($ONNXEXPLAIN_DATA, or ../shared): nothing to draw")
        return
    model = ox.load(network(weights(path / "linear_784_512_100_10.pkl")))
    images, labels = digits(path)
    means = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])

    names = [f"Digit:{digit}" for digit in range(10)]
    settings = {"mean": means, "mean_weight": 0.1, "rate": 0.01, "labels": names}
    ten = ox.prototype(model, "all", steps=STEPS, **settings)
    print(f"ten digits: loss {ten.loss[0]:.3g} to {ten.loss[-1]:.2g} in {STEPS:,} steps")
    for step in range(0, STEPS + 1, 2000):
        print(f"  step {step:6,}: {ten.loss[step]:.6f}")
    assert ten.logits.argmax(axis=1).tolist() == [*range(10)]

    eight = np.asarray(Image.open(path / "digit_8.png"), np.float32)[None, None] / 255
    turned = ox.prototype(model, [3, 1], eight, steps=5000, **settings)
    print(f"an 8 made a 3 and a 1: probabilities {turned.probabilities[[0, 1], [3, 1]]}")

    out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    (out / "digits.png").write_bytes(png(ten.plot()))
    (out / "digits_loss.png").write_bytes(png(ten.plot_loss()))
    (out / "eight.png").write_bytes(png(turned.plot()))


if __name__ == "__main__":
    main()
