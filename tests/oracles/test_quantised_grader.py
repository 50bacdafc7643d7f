"""The network that grades retinas, quantised, against torch and against itself in floats.

`pip install torch`, beside the package, and `pytest tests/oracles/test_quantised_grader.py`;
`-m slow` for the comparison in float64.
"""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import onnxexplain as ox
from tests.oracles.straight_through import QDQ, QOPERATOR, Replica, cosine, quantised, torch

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # what the quantiser itself warns of
]

MODELS = Path(__file__).parents[2] / "models"
MEAN, DEVIATION = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
FORMS = pytest.mark.parametrize(
    ("kind", "per_channel"), [(QDQ, False), (QOPERATOR, True)], ids=["pairs", "integers"]
)


def prepared(path):
    image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    return ((image - MEAN) / DEVIATION).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def retinas():
    """The painted retina, turned: one to explain, three to calibrate with."""
    one = prepared(MODELS / "dr_retina.png")
    return [np.rot90(one, turn, (1, 2))[None].copy() for turn in range(4)]


@pytest.fixture(scope="module")
def grader():
    return onnx.load(MODELS / "dr640.onnx")


@FORMS
def test_both_forms_are_explained(retinas, grader, kind, per_channel, tmp_path):
    """Nearly half of all windows tie on integers: shares add up all the same."""
    said = {"quant_format": kind, "per_channel": per_channel}
    proto = quantised(grader, retinas[1:], tmp_path, **said)
    e = ox.explain(proto, retinas[0], targets="all")
    assert e.difference < 0.05
    assert np.abs(e.residual).max() < 1e-5
    graded = ox.explain(grader, retinas[0], targets="all")
    # With activations on a grid other windows win and other units wake: 0.79 to 0.85.
    for ours, theirs in zip(e.attributions["input"], graded.attributions["input"], strict=True):
        assert cosine(ours, theirs) > 0.75


@FORMS
@pytest.mark.slow
def test_the_gradient_is_the_replicas(retinas, grader, kind, per_channel, tmp_path):
    """In float64, where both take the same side of every rounding, the gradient is torch's.

    In float32 some of the roundings, of which there are millions, fall on the other side: the
    replica in float32 is as far from itself in float64.
    """
    said = {"quant_format": kind, "per_channel": per_channel}
    proto = decided(quantised(grader, retinas[1:], tmp_path, **said))
    ask = {"method": "gradient", "target": 4}
    exact = ox.explain(proto, retinas[0], **ask, engine="eager", dtype="float64")
    scores, theirs = Replica(proto, torch.float64).gradient(retinas[0], 4)
    assert np.allclose(exact.logits, scores, rtol=0, atol=1e-12)
    assert np.allclose(exact.attributions["input"], theirs, rtol=0, atol=1e-12)
    ours = ox.explain(proto, retinas[0], **ask).attributions["input"]
    _, rounded = Replica(proto, torch.float32).gradient(retinas[0], 4)
    for one, other in itertools.combinations(
        (exact.attributions["input"], ours, theirs, rounded), 2
    ):
        assert cosine(one, other) > 0.99


@FORMS
@pytest.mark.slow
def test_as_the_quantiser_leaves_it(retinas, grader, kind, per_channel, tmp_path):
    """The pairs need no deciding; of the integers, most units do not."""
    said = {"quant_format": kind, "per_channel": per_channel}
    proto = quantised(grader, retinas[1:], tmp_path, **said)
    ask = {"target": 4, "engine": "eager", "dtype": "float64"}
    ours = ox.explain(proto, retinas[0], "gradient", **ask).attributions["input"]
    _, theirs = Replica(proto, torch.float64).gradient(retinas[0], 4)
    if kind is QDQ:
        assert np.allclose(ours, theirs, rtol=0, atol=1e-9)
    assert cosine(ours, theirs) > 0.9999


def decided(proto):
    """Let no sum of integers be zero, by even weights and odd biases.

    What stands for such a sum is zero but for rounding, and that decides whether the ReLU there is
    open: in thousands of the grader's units, for the replica one way and for the explanation
    another. All other units agree to the last digits.
    """
    for tensor in proto.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.int8 and value.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(value & ~1, tensor.name))
        elif value.dtype == np.int32 and not tensor.name.endswith("zero_point"):
            tensor.CopyFrom(numpy_helper.from_array(value | 1, tensor.name))
    return proto


# ----- Weights alone -----


def rounded_to_bytes(proto):
    """Round the convolutions' weights to 255 steps of each output channel."""
    near = onnx.ModelProto()
    near.CopyFrom(proto)
    for tensor in near.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 4:
            step = np.abs(value).max((1, 2, 3), keepdims=True) / 127
            found = (np.round(value / step) * step).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(found, tensor.name))
    return near


def takes_little(proto, x, least):
    e, plain = (ox.explain(p, x, targets="all") for p in (rounded_to_bytes(proto), proto))
    for ours, theirs in zip(e.attributions["input"], plain.attributions["input"], strict=True):
        assert cosine(ours, theirs) >= least


def test_weights_alone_take_little_from_the_map(retinas, grader):
    takes_little(grader, retinas[0], 0.97)


def test_nor_do_those_of_the_authors(data, tmp_path):
    ox.dr_network(data("dr_authors_QWKval0814.pth.tar"), tmp_path / "dr.onnx")
    takes_little(onnx.load(tmp_path / "dr.onnx"), prepared(data("fundus_640.png"))[None], 0.97)
