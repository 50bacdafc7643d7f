"""Receptive fields: the DR network's table, and what units really see."""

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.dr import LAYERS, build
from onnxexplain.graph import lower, receptive_fields
from onnxexplain.runtime import run_once
from tests.builders import dr_weights, net, weights

# Layer by layer: size by the papers' names, true size, jump, start.
TABLE = {
    "rf3": (3, 3, 1, 0),
    "rf5": (5, 5, 1, 0),
    "rf9": (9, 10, 2, 0.5),
    "rf13": (13, 14, 2, 0.5),
    "rf21": (21, 24, 4, 1.5),
    "rf29": (29, 32, 4, 1.5),
    "rf45": (45, 52, 8, 3.5),
    "rf61": (61, 68, 8, 3.5),
    "rf93": (93, 108, 16, 7.5),
    "rf125": (125, 140, 16, 7.5),
    "rf189": (189, 220, 32, 15.5),
    "rf253": (253, 284, 32, 15.5),
    "rf381": (381, 444, 64, 31.5),
    "rf509": (509, 572, 64, 31.5),
    "rf637": (637, 764, 128, 127.5),
}
POOLS = {1: (6, 2, 0.5), 2: (16, 4, 1.5), 3: (36, 8, 3.5), 4: (76, 16, 7.5), 5: (156, 32, 15.5)}
POOLS |= {6: (316, 64, 31.5), 7: (636, 128, 63.5)}


@pytest.fixture(scope="module")
def network():
    return build(dr_weights())


@pytest.fixture(scope="module")
def lowered(network):
    return lower(network, {"input": (1, 3, 640, 640)}, run_once)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("nominal", [False, True])
def test_table(lowered, layer, nominal):
    fields = receptive_fields(lowered.nodes, lowered.shapes, "input", nominal=nominal)
    paper, true, jump, start = TABLE[layer]
    for part in ("Conv", "BatchNormalization", "Relu"):
        for axis in fields[f"/{layer}/{part}_output_0"]:
            assert (axis.size, axis.stride, axis.start) == (paper if nominal else true, jump, start)


def test_pools_and_features(lowered):
    fields = receptive_fields(lowered.nodes, lowered.shapes, "input")
    for i, expected in POOLS.items():
        for axis in fields[f"/pool{i}/MaxPool_output_0"]:
            assert (axis.size, axis.stride, axis.start) == expected
    for axis in fields["/avgpool/AveragePool_output_0"]:
        assert (axis.size, axis.stride, axis.start) == (1148, 512, 319.5)
    assert "/lc/Gemm_output_0" not in fields


@pytest.mark.parametrize("field", ["true", "nominal"])
def test_an_explanation_says_so(network, field):
    x = np.random.default_rng(0).standard_normal((1, 3, 640, 640)).astype(np.float32)
    e = ox.explain(network, x, receptive_field=field)
    layer = e.layers["/rf61/Relu_output_0"]
    assert {axis.size for axis in layer.receptive_field} == {61 if field == "nominal" else 68}
    carried = layer.to_input()
    assert carried.shape == (1, 640, 640)
    assert carried.sum() == pytest.approx(layer.score_map.sum(dtype=np.float64), rel=1e-6)


def seen(proto, tensor, unit, sizes):
    """Return, per axis, the first and last input position that a unit's gradient reaches."""
    x = np.random.default_rng(0).standard_normal((1, 1, *sizes)).astype(np.float32)
    element = (0, *unit)
    g = ox.explain(proto, x, "gradient", output=tensor, target=element).attributions["x"][0, 0]
    return [(at.min(), at.max()) for at in np.nonzero(g)]


def test_a_unit_sees_its_field():
    """Kernel, stride, dilation, asymmetric pads, branches: the field is what the gradient says."""
    proto = net(
        """(float[N,1,40,36] x) => (float[N,2,a,b] y) {
            c = Conv<strides=[2,1], pads=[1,0,0,2]>(x, w1)
            d = Conv<dilations=[2,3], pads=[2,3,2,3]>(c, w2)
            s = Add(c, d)
            p = AveragePool<kernel_shape=[2,3], strides=[2,2]>(s)
            y = Conv(p, w3) }""",
        **weights(2, w1=(2, 1, 3, 2), w2=(2, 2, 3, 3), w3=(2, 2, 2, 2)),
    )
    sizes = (40, 36)
    nodes = lower(proto, {"x": (1, 1, *sizes)}, run_once)
    fields = receptive_fields(nodes.nodes, nodes.shapes, "x")
    for tensor in ("c", "d", "s", "p", "y"):
        unit = tuple(n // 2 for n in nodes.shapes[tensor][2:])
        for axis, i, (first, last) in zip(
            fields[tensor], unit, seen(proto, tensor, unit, sizes), strict=True
        ):
            centre = axis.start + axis.stride * i
            assert centre - (axis.size - 1) / 2 == first
            assert centre + (axis.size - 1) / 2 == last
