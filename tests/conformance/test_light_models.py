"""The real architectures that come with onnx (opset 9, without weights), given random weights."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxexplain as ox
from tests.builders import Numeric

FOLDER = Path(onnx.__file__).parent / "backend/test/data/light"
MODELS = sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("light_*.onnx"))
SLOTS = {"scale": (0.5, 1.5), "b": (-0.2, 0.2), "mean": (-0.2, 0.2), "var": (0.5, 1.5)}
"""A BatchNormalization's inputs, in order, and between which numbers they are drawn."""


def with_weights(name):
    """Return a model whose constants, all equal in the file, are random; its input is `data`."""
    proto = onnx.load(FOLDER / f"light_{name}.onnx")
    rng = np.random.default_rng(0)
    held = {t.name: t for t in proto.graph.initializer}
    ranges = {}
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            ranges |= dict(zip(node.input[1:], SLOTS.values(), strict=True))
    factors = {t for node in proto.graph.node if node.op_type == "Mul" for t in node.input}
    for node in proto.graph.node:
        if node.op_type == "Unsqueeze" and node.output[0] in factors:
            ranges[node.input[0]] = SLOTS["scale"]
    kept = []
    for node in proto.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(numpy_helper.to_array(held[node.input[0]]))
        made = node.output[0]
        if made in ranges:
            value = rng.uniform(*ranges[made], shape)
        else:
            fan = np.prod(shape[1:]) if len(shape) > 1 else 100
            value = rng.standard_normal(shape, np.float32) * np.sqrt(2 / fan)
        proto.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), made))
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto


QUICK = {"squeezenet", "shufflenet", "inception_v1"}
"""The others take a minute and gigabytes each: with ``ONNXEXPLAIN_ALL_ORACLES`` set."""


@pytest.mark.parametrize("name", MODELS)
def test_architecture(name):
    """Gradient = central difference in float64; compiled = eager; shares and constants add up."""
    if name not in QUICK and not os.environ.get("ONNXEXPLAIN_ALL_ORACLES"):
        pytest.skip("a large architecture: set ONNXEXPLAIN_ALL_ORACLES=1 to run it")
    model = ox.load(with_weights(name))
    (source,) = (n for n, i in model.inputs.items() if len(i.shape) == 4)
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    feeds = {
        n: x if n == source else np.zeros(i.shape, np.float32) for n, i in model.inputs.items()
    }

    shares = ox.explain(model, feeds, target=3)
    assert abs(shares.residual[0]) < 1e-5
    compiled = ox.explain(model, feeds, "gradient", target=3, engine="compiled")
    eager = ox.explain(model, feeds, "gradient", target=3, engine="eager")
    ours, theirs = (e.attributions[source].astype(np.float64) for e in (compiled, eager))
    assert cosine(ours, theirs) > 0.9999  # a unit within rounding of zero may be on in one of them
    assert np.allclose(shares.attributions[source], ours * x, atol=1e-6 * np.abs(ours * x).max())

    seed = np.zeros(compiled.logits.shape, np.float32)
    seed[0, 3] = 1
    direction = {source: ours / np.linalg.norm(ours)}
    numeric = Numeric(model.proto, feeds, compiled.output, seed).along(direction, 1e-7)
    assert numeric == pytest.approx((ours * direction[source]).sum(), rel=1e-4)


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
