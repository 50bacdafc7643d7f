"""What a quantised model is held against: its fake-quantised replica in torch, straight through.

Tests that import it are skipped where torch or ONNX Runtime's quantiser is not installed.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

torch = pytest.importorskip("torch", reason="the oracle is torch")
quantization = pytest.importorskip("onnxruntime.quantization", reason="the quantiser is its own")

QDQ, QOPERATOR = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator
UINT8, INT8 = quantization.QuantType.QUInt8, quantization.QuantType.QInt8


class StraightThrough(torch.autograd.Function):
    """Rounding counts as the identity, clipping does not."""

    @staticmethod
    def forward(ctx, x, scale, zero, low, high):
        number = torch.round(x / scale) + zero
        ctx.save_for_backward((number >= low) & (number <= high))
        return (number.clamp(low, high) - zero) * scale

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None, None, None, None


class Replica:
    """A quantised model of either form, node by node in torch.

    Tensors hold what their numbers stand for: a layer on integers is the layer on those, kept on
    the grid of its output.
    """

    def __init__(self, proto, dtype):
        self.proto, self.dtype = proto, dtype
        held = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        self.held = {n: torch.tensor(v.astype(np.float64), dtype=dtype) for n, v in held.items()}
        self.kinds = {n: v.dtype for n, v in held.items()}

    def __call__(self, x):
        values, made = dict(self.held), {}
        values[self.proto.graph.input[0].name] = x
        for node in self.proto.graph.node:
            said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            given = [values[t] for t in node.input]
            values[node.output[0]] = getattr(self, node.op_type.lower())(node, made, said, *given)
            made[node.output[0]] = node.op_type
        return values[self.proto.graph.output[0].name]

    def last(self):
        graph = self.proto.graph
        return {t for n in graph.node if n.output[0] == graph.output[0].name for t in n.input}

    def onto(self, node, x, scale, zero, slot, maker):
        """Keep what ``maker`` gave on the grid whose zero point is the node's input ``slot``."""
        info = np.iinfo(self.kinds[node.input[slot]])
        if node.output[0] in self.last():  # the scores' own grid has no ends
            return StraightThrough.apply(x, scale, zero, -torch.inf, torch.inf)
        if zero == info.min and maker in ("Conv", "Gemm", "Add", "MatMul"):
            x = torch.relu(x)  # which the quantiser left to the grid
        return StraightThrough.apply(x, scale, zero, info.min, info.max)

    def real(self, numbers, scale, zero, axis):
        shape = [-1 if i == axis else 1 for i in range(numbers.ndim)] if scale.ndim else []
        return (numbers - zero.reshape(shape)) * scale.reshape(shape)

    # ----- Pairs -----

    def quantizelinear(self, node, made, said, x, scale, zero):
        return self.onto(node, x, scale, zero, 2, made.get(node.input[0]))

    def dequantizelinear(self, node, made, said, x, scale, zero):
        held = node.input[0] in self.held
        return self.real(x, scale, zero, said.get("axis", 1)) if held else x

    # ----- Layers on integers -----

    def qlinearconv(self, node, made, said, x, xs, xz, w, ws, wz, scale, zero, b=None):
        b = b if b is None else b * xs * ws
        y = self.conv(node, made, said, x, self.real(w, ws, wz, 0), b)
        return self.onto(node, y, scale, zero, 7, "Conv")

    def qgemm(self, node, made, said, a, xs, xz, w, ws, wz, b, scale, zero):
        assert said.get("alpha", 1) == 1
        weight = self.real(w, ws, wz, 0 if said.get("transB") else 1)
        y = self.gemm(node, made, said, a, weight, b * xs * ws)
        return self.onto(node, y, scale, zero, 8, "Gemm")

    def qlinearadd(self, node, made, said, a, a_scale, a_zero, b, b_scale, b_zero, scale, zero):
        return self.onto(node, a + b, scale, zero, 7, "Add")

    def qlinearaveragepool(self, node, made, said, x, x_scale, x_zero, scale, zero):
        y = self.averagepool(node, made, said, x)
        return self.onto(node, y, scale, zero, 4, "AveragePool")

    def qlinearglobalaveragepool(self, node, made, said, x, x_scale, x_zero, scale, zero):
        y = self.globalaveragepool(node, made, said, x)
        return self.onto(node, y, scale, zero, 4, "GlobalAveragePool")

    # ----- Layers on what they stand for -----

    def conv(self, node, made, said, x, w, b=None):
        pads = said.get("pads", [0] * 4)
        assert pads[:2] == pads[2:]
        return torch.nn.functional.conv2d(x, w, b, said.get("strides", 1), pads[:2])

    def maxpool(self, node, made, said, x):
        return torch.nn.functional.max_pool2d(x, said["kernel_shape"], said["strides"])

    def globalaveragepool(self, node, made, said, x):
        return x.mean((2, 3), keepdim=True)

    def averagepool(self, node, made, said, x):
        return torch.nn.functional.avg_pool2d(x, said["kernel_shape"], said["strides"])

    def reducemean(self, node, made, said, x, axes=None):
        axes = [int(a) for a in said.get("axes", axes)]
        return x.mean(axes, keepdim=bool(said.get("keepdims", 1)))

    def add(self, node, made, said, a, b):
        return a + b

    def relu(self, node, made, said, x):
        return torch.relu(x)

    def flatten(self, node, made, said, x):
        return x.flatten(1)

    def gemm(self, node, made, said, a, b, c):
        return a @ (b.T if said.get("transB") else b) + c

    def gradient(self, x, target):
        leaf = torch.tensor(x, dtype=self.dtype, requires_grad=True)
        scores = self(leaf)
        scores[:, target].sum().backward()
        return scores.detach().numpy(), leaf.grad.numpy()


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, name, images):
        self.given = iter([{name: image} for image in images])

    def get_next(self):
        return next(self.given, None)


def quantised(proto, images, folder: Path, **said):
    """Merge normalisations into convolutions, then quantise, as ONNX Runtime has it."""
    plain, made = folder / "float.onnx", folder / "quantised.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(plain)
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    reader = Calibration(proto.graph.input[0].name, images)
    quantization.quantize_static(plain, made, reader, **said)
    return onnx.load(made)


def cosine(a, b):
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)
