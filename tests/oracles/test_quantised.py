"""Quantised models against torch: the derivative of a fake-quantised network, straight through.

`pip install torch`, beside the package, and `pytest tests/oracles/test_quantised.py`.
"""

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxexplain as ox
from tests.builders import net, weights
from tests.oracles.straight_through import (
    INT8,
    QDQ,
    QOPERATOR,
    UINT8,
    Replica,
    cosine,
    quantised,
    quantization,
    torch,
)

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # what the quantiser itself warns of
]


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


@pytest.mark.parametrize("kind", [QDQ, QOPERATOR], ids=["pairs", "integers"])
@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_is_straight_through(way, kind, tmp_path):
    """In float64 the gradient is torch's to the last digits, in float32 to its rounding."""
    proto = quantised(SMALL, images(8, 0), tmp_path, quant_format=kind, **WAYS[way])
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
    x = images(1, 1)[0]
    if "ReorderInput" in fused:  # no kernel for signed bytes here: the floats are laid out instead
        assert (level, kind) == ("ALL", INT8)
        with pytest.raises(ox.UnsupportedOperator, match="save the optimised model at level"):
            ox.explain(made, x, target=2)
        return
    assert ("QLinearConv" in fused) == (level != "BASIC")
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
