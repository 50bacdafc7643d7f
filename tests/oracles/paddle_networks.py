"""Networks of Paddle, exported and differentiated by Paddle itself; knows nothing of the package.

Run by the interpreter that has Paddle: `python paddle_networks.py FOLDER` writes, for every
network, NAME.raw.onnx, NAME.folded.onnx, and NAME.npz with an input, its scores and the gradient of
the third.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional


class Convolutional(nn.Layer):
    shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8)
        self.deep = nn.Conv2D(8, 8, 3, padding=1, groups=8)
        self.two = nn.Conv2D(8, 12, 3, stride=2)
        self.gate, self.head = nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, x):
        x = functional.relu(self.norm(self.one(x)))
        x = x + functional.hardswish(self.deep(x))
        x = functional.gelu(self.two(functional.max_pool2d(x, 2)))
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.head(x * functional.sigmoid(self.gate(x)))


class Upwards(nn.Layer):
    shape = (4, 8, 8)

    def __init__(self):
        super().__init__()
        self.one, self.slope = nn.Conv2D(4, 8, 3, padding="SAME"), nn.PReLU(8)
        self.up, self.norm = nn.Conv2DTranspose(8, 6, 2, stride=2), nn.InstanceNorm2D(6)
        self.two, self.head = nn.Conv2D(10, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        y = self.norm(self.up(self.slope(self.one(x))))
        x = functional.interpolate(x, size=[16, 16], mode="bilinear", align_corners=False)
        x = functional.swish(self.two(paddle.concat([x, y], 1)))
        return self.head(functional.avg_pool2d(x, 2).mean([2, 3]))


class Tokens(nn.Layer):
    shape = (7, 16)

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, activation="gelu")
        self.layers, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.layers(x).max(1))


class Recurrent(nn.Layer):
    shape = (9, 6)

    def __init__(self):
        super().__init__()
        self.one = nn.LSTM(6, 8, direction="bidirect")
        self.two, self.head = nn.GRU(16, 7), nn.Linear(7, 5)

    def forward(self, x):
        return self.head(self.two(self.one(x)[0])[0].mean(1))


NETWORKS = {
    "convolutional": Convolutional,
    "upwards": Upwards,
    "tokens": Tokens,
    "recurrent": Recurrent,
}


def settled(network):
    """Move statistics off their starting values."""
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._mean.set_value(0.2 * paddle.randn(layer._mean.shape))
            layer._variance.set_value(0.5 + paddle.rand(layer._variance.shape))
    network.eval()
    return network


def export(network, path):
    """Write the network as it is, and as the exporter folds it where that can be done."""
    given = paddle.static.InputSpec([None, *network.shape], "float32", "x")
    ways = {"raw": "None"}
    if importlib.util.find_spec("onnxruntime") is not None:  # else the exporter would install it
        ways["folded"] = "polygraphy"
    for way, tool in ways.items():
        where = f"{path}.{way}"
        paddle.onnx.export(network, where, [given], opset_version=15, optimize_tool=tool)


def main(folder):
    for name, make in NETWORKS.items():
        paddle.seed(0)
        network = settled(make())
        export(network, folder / name)
        for layer in network.sublayers():
            if isinstance(layer, nn.LSTM | nn.GRU):
                layer.train()  # Paddle differentiates a recurrence in training only
        x = paddle.randn([3, *make.shape])
        x.stop_gradient = False
        scores = network(x)
        scores[:, 2].sum().backward()
        arrays = {"x": x.numpy(), "scores": scores.numpy(), "gradient": x.grad.numpy()}
        np.savez(folder / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
