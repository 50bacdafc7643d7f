"""A small classifier of photographs and a photograph for it."""

import json

import numpy as np
import onnx
from PIL import Image

from tests.builders import net, weights

LABELS = ["cat", "dog", "<b>bird</b>"]


def classifier(**metadata: object) -> onnx.ModelProto:
    """Two convolutions, a pool, a linear head: three classes of 24 by 24 pixels."""
    proto = net(
        """(float[N,3,24,24] x) => (float[N,3] y) {
            h = Conv<pads=[1,1,1,1]>(x, w, b)  a = Relu(h)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
            k = Conv<pads=[1,1,1,1]>(p, w2, b2)  r = Relu(k)
            g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm<transB=1>(f, v, c) }""",
        **weights(5, w=(4, 3, 3, 3), b=(4,), w2=(8, 4, 3, 3), b2=(8,), v=(3, 8), c=(3,)),
    )
    onnx.helper.set_model_props(
        proto, {f"onnxexplain.{key}": json.dumps(value) for key, value in metadata.items()}
    )
    return proto


def photograph(width: int = 60, height: int = 40) -> Image.Image:
    """A smooth picture with something in it."""
    y, x = np.mgrid[:height, :width]
    red = 255 * x / max(width - 1, 1)
    green = 255 * y / max(height - 1, 1)
    blue = 255 * (np.hypot(x - width / 2, y - height / 2) < height / 4)
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))
