"""Quantised models against torch: the derivative of a fake-quantised network, straight through.

`pip install torch`, beside the package, and `pytest tests/oracles/test_quantised.py`.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from PIL import Image

import onnxexplain as ox
from tests.builders import net, weights

torch = pytest.importorskip("torch", reason="the oracle is torch")
quantization = pytest.importorskip("onnxruntime.quantization", reason="the quantiser is its own")
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # what the quantiser itself warns of
]

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
    """A model of quantise-dequantise pairs, node by node in torch."""

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

    def quantizelinear(self, node, made, said, x, scale, zero):
        info = np.iinfo(self.kinds[node.input[2]])
        if node.output[0] in self.last():  # the scores' own grid has no ends
            return StraightThrough.apply(x, scale, zero, -torch.inf, torch.inf)
        if zero == info.min and made.get(node.input[0]) in ("Conv", "Gemm", "Add", "MatMul"):
            x = torch.relu(x)  # which the quantiser left to the grid
        return StraightThrough.apply(x, scale, zero, info.min, info.max)

    def last(self):
        graph = self.proto.graph
        return {t for n in graph.node if n.output[0] == graph.output[0].name for t in n.input}

    def dequantizelinear(self, node, made, said, x, scale, zero):
        if node.input[0] not in self.held:
            return x
        axis = said.get("axis", 1)
        shape = [-1 if i == axis else 1 for i in range(x.ndim)] if scale.ndim else []
        return (x - zero.reshape(shape)) * scale.reshape(shape)

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


# ----- A small network -----

SMALL = net(
    """(float[N,3,16,16] x) => (float[N,4] y) {
        h = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(h)
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
        k = Conv<pads=[1,1,1,1]>(p, w2, b2)  s = Add(k, p)  t = Relu(s)
        q = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)
        g = GlobalAveragePool(q)  f = Flatten(g)  y = Gemm(f, v, c) }""",
    **weights(1, w=(8, 3, 3, 3), b=(8,), w2=(8, 8, 3, 3), b2=(8,), v=(8, 4), c=(4,)),
)
WAYS = {
    "tensor-uint8": {"activation_type": UINT8},
    "tensor-int8": {"activation_type": INT8},
    "channel-uint8": {"activation_type": UINT8, "per_channel": True},
    "channel-int8": {"activation_type": INT8, "per_channel": True},
}


def images(count, seed):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, 3, 16, 16)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("way", WAYS)
def test_pairs_are_stepped_over(way, tmp_path):
    """In float64 the gradient is torch's to the last digits, in float32 to its rounding."""
    proto = quantised(SMALL, images(8, 0), tmp_path, quant_format=QDQ, **WAYS[way])
    for x in images(3, 1):
        scores, theirs = Replica(proto, torch.float64).gradient(x, 2)
        exact = ox.explain(proto, x, "gradient", target=2, engine="eager", dtype="float64")
        assert np.allclose(exact.logits, scores, atol=1e-12)
        assert np.allclose(exact.attributions["x"], theirs, atol=1e-12)
        scores, theirs = Replica(proto, torch.float32).gradient(x, 2)
        for engine in ("eager", "compiled"):
            ours = ox.explain(proto, x, "gradient", target=2, engine=engine)
            assert ours.difference < 0.05
            assert cosine(ours.attributions["x"], theirs) > 0.9999
            for ties in ("first", "share"):
                shared = ox.explain(proto, x, target=2, engine=engine, ties=ties)
                assert np.abs(shared.residual).max() < 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_both_formats_say_the_same(way, tmp_path):
    """Operators on integers, or pairs around operators on floats: one explanation."""
    x = images(1, 1)[0]
    plain = ox.explain(SMALL, x, target=2)
    found = []
    for kind in (QDQ, QOPERATOR):
        proto = quantised(SMALL, images(8, 0), tmp_path, quant_format=kind, **WAYS[way])
        for engine in ("eager", "compiled"):
            e = ox.explain(proto, x, target=2, engine=engine)
            assert np.abs(e.residual).max() < 1e-5
            found.append(e.attributions["x"])
    for other in found[1:]:
        assert cosine(found[0], other) > 0.9999
    assert cosine(found[0], plain.attributions["x"]) > 0.9


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
@pytest.mark.parametrize("kind", [UINT8, INT8], ids=["uint8", "int8"])
def test_optimised_and_saved(level, kind, tmp_path):
    """Whatever ONNX Runtime makes of the pairs: its own operators, channels last."""
    proto = quantised(SMALL, images(8, 0), tmp_path, quant_format=QDQ, activation_type=kind)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    made = onnx.load(tmp_path / "optimised.onnx")
    fused = {node.op_type for node in made.graph.node}
    assert ("QLinearConv" in fused) == (level != "BASIC")
    x = images(1, 1)[0]
    for engine in ("eager", "compiled"):
        ours, theirs = (ox.explain(p, x, target=2, engine=engine) for p in (made, proto))
        assert np.abs(ours.residual).max() < 1e-5
        assert cosine(ours.attributions["x"], theirs.attributions["x"]) > 0.9999


def test_integers_found_while_it_runs(tmp_path):
    """Dynamic quantisation: the weights beforehand, the grids of the activations from the data."""
    onnx.save(SMALL, tmp_path / "float.onnx")
    quantization.quantize_dynamic(tmp_path / "float.onnx", tmp_path / "dynamic.onnx")
    proto = onnx.load(tmp_path / "dynamic.onnx")
    assert "ConvInteger" in {node.op_type for node in proto.graph.node}
    x = images(1, 1)[0]
    plain = ox.explain(SMALL, x, target=2)
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, x, target=2, engine=engine)
        assert np.abs(e.residual).max() < 1e-5
        assert e.difference < 1e-5
        assert cosine(e.attributions["x"], plain.attributions["x"]) > 0.98


# ----- The network that grades retinas -----

MODELS = Path(__file__).parents[2] / "models"
MEAN, DEVIATION = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])


@pytest.fixture(scope="module")
def retinas():
    """The painted retina, turned: one to explain, three to calibrate with."""
    image = np.asarray(Image.open(MODELS / "dr_retina.png").convert("RGB"), np.float32) / 255
    one = ((image - MEAN) / DEVIATION).transpose(2, 0, 1)
    return [np.rot90(one, turn, (1, 2))[None].copy() for turn in range(4)]


@pytest.fixture(scope="module")
def graded(retinas):
    return ox.explain(MODELS / "dr640.onnx", retinas[0], targets="all")


@pytest.mark.parametrize(
    ("kind", "per_channel"), [(QDQ, False), (QOPERATOR, True)], ids=["pairs", "integers"]
)
def test_a_quantised_grader(retinas, graded, kind, per_channel, tmp_path):
    """Nearly half of all windows tie on integers: shares add up all the same."""
    proto = quantised(
        onnx.load(MODELS / "dr640.onnx"),
        retinas[1:],
        tmp_path,
        quant_format=kind,
        per_channel=per_channel,
    )
    e = ox.explain(proto, retinas[0], targets="all")
    assert e.difference < 0.05
    assert np.abs(e.residual).max() < 1e-5
    close = [cosine(e.attributions["input"][c], graded.attributions["input"][c]) for c in range(5)]
    assert min(close) > 0.75
    if kind is QDQ:
        top = int(e.logits.argmax())
        scores, gradient = Replica(proto, torch.float32).gradient(retinas[0], top)
        assert np.abs(scores - e.logits).max() < 0.05 * np.abs(scores).max()
        assert cosine(e.attributions["input"][top], gradient * retinas[0]) > 0.99


def test_grader_with_quantised_weights(retinas, graded):
    """Weights alone take little from the map."""
    proto = onnx.load(MODELS / "dr640.onnx")
    for tensor in proto.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 4:
            step = np.abs(value).max((1, 2, 3), keepdims=True) / 127
            near = (np.round(value / step) * step).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(near, tensor.name))
    e = ox.explain(proto, retinas[0], targets="all")
    for c in range(5):
        assert cosine(e.attributions["input"][c], graded.attributions["input"][c]) > 0.95
