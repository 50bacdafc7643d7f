"""Literal answers from other projects' tests: ``outside_cases.json`` in the data folder."""

import json

import numpy as np
import pytest

import onnxexplain as ox
from tests.builders import net
from tests.conftest import data_file

ONE_CONV = net(
    """(float[N,1,4,4] x) => (float[N,4] y) {
        conv1 = Conv(x, w, b)  relu1 = Relu(conv1)  flat = Reshape(relu1, shape)
        lin = Gemm<transB=1>(flat, v)  y = Relu(lin) }""",
    w=np.ones((2, 1, 3, 3), np.float32),
    b=[-50.0, -75.0],
    shape=np.array([-1, 8]),
    v=np.array([[1.0] * 5 + [-1.0] * 3] * 4),
)
MULTILAYER = net(
    """(float[N,3] x) => (float[N,2] y) {
        linear0 = Gemm<transB=1>(x, w0)  linear1 = Gemm<transB=1>(linear0, w1, b1)
        relu = Relu(linear1)  y = Gemm<transB=1>(relu, w2, b2) }""",
    w0=np.eye(3),
    w1=np.ones((4, 3)),
    b1=[-10.0, 1.0, 1.0, 1.0],
    w2=np.ones((2, 4)),
    b2=[-1.0, 1.0],
)
IMAGE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)


def sal_basic(case, engine):
    proto = net(
        "(float[N] x) => (float[N] y) { d = Sub(one, x)  r = Relu(d)  y = Sub(one, r) }", one=1.0
    )
    x = np.array(case["input"], np.float32)
    return ox.explain(
        proto, x, "gradient", part="absolute", target=np.ones_like(x), engine=engine
    ).attributions["x"]


def grad_cam(layer):
    def run(case, engine):
        e = ox.explain(
            ONE_CONV, IMAGE, "grad-cam", layer=layer, target=0, relu=layer == "relu1", engine=engine
        )
        return e.attributions[layer][0, 0]

    return run


def gradient_times_activation(layer):
    def run(case, engine):
        x = np.array(case["input"], np.float32)
        e = ox.explain(MULTILAYER, x, "input-x-gradient", wrt=layer, target=0, engine=engine)
        return e.attributions[layer]

    return run


def constant_term(case, engine):
    x = np.array(case["input"], np.float32)
    e = ox.explain(MULTILAYER, x, target=0, engine=engine)
    expected = case["expected"]
    assert e.constant == pytest.approx([expected["constants"]])
    assert e.score == pytest.approx([expected["output"]])
    case["expected"] = [expected["input_scores"]]
    return e.attributions["x"]


def backwards(method):
    def run(case, engine):
        return ox.explain(ONE_CONV, IMAGE, method, target=0, engine=engine).attributions["x"][0, 0]

    return run


def guided_grad_cam(case, engine):
    """The case resizes the map to the nearest, we linearly: so its two factors are checked."""
    cam = ox.explain(ONE_CONV, IMAGE, "grad-cam", layer="relu1", target=0, engine=engine)
    sharp = backwards("guided-backprop")(case, engine)
    return sharp * np.kron(cam.attributions["relu1"][0, 0], np.ones((2, 2)))


RUN = {
    "gbp": backwards("guided-backprop"),
    "deconv": backwards("deconvnet"),
    "guided_gradcam": guided_grad_cam,
    "sal_basic": sal_basic,
    "gradcam_conv1": grad_cam("conv1"),
    "gradcam_relu1": grad_cam("relu1"),
    "gxa0": gradient_times_activation("linear0"),
    "gxa1": gradient_times_activation("linear1"),
    "const_term": constant_term,
}

# Why the others are not run: what they need, by the beginning of their names.
WAITS = {
    "ig_": "integrated-gradients is not there yet",
    "pair_ig": "integrated-gradients is not there yet",
    "gradcam_conv1_split": "a CAM's channels are summed here; captum's option keeps them apart",
    "gradcam_dense": "a CAM of a layer without positions, which is an error here",
    "conductance": "conductance is not there yet",
    "lrp_": "the lrp-* methods are not there yet",
    "deeplift_": "deeplift is not there yet",
    "ablation": "feature-ablation is not there yet",
    "occlusion": "occlusion is not there yet",
    "shapley": "shapley-sampling is not there yet",
    "pair_gradcam": "its activations are in the other project's file only",
    "xplique_gradcam_w": "its activations are in the other project's file only",
    "innv_refs": "its reference arrays are in the other project's file only",
}


def cases():
    path = data_file("outside_cases.json")
    return json.loads(path.read_text()) if path else []


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("case", cases(), ids=lambda c: c["id"])
def test_outside_case(case, engine):
    name = case["id"]
    if name not in RUN:
        pytest.skip(next(why for key, why in WAITS.items() if name.startswith(key)))
    case = json.loads(json.dumps(case))
    found = RUN[name](case, engine)
    tolerance = case["tolerance"] if isinstance(case["tolerance"], float) else 1e-6
    assert np.allclose(found, case["expected"], atol=tolerance)


def test_no_case_is_forgotten(data):
    known = {case["id"] for case in json.loads(data("outside_cases.json").read_text())}
    assert set(RUN) <= known
    ready = {record["name"] for record in ox.methods()}
    for why in WAITS.values():
        if why.endswith("is not there yet"):
            assert why.split()[0] not in ready, "write its cases now"
    assert not any(name.startswith("lrp-") for name in ready), "write its cases now"


def test_cam_of_a_layer_without_positions():
    """Captum's `gradcam_dense` weighs a vector; here it is an error that says why."""
    with pytest.raises(ox.MethodError, match="no positions"):
        ox.explain(MULTILAYER, np.ones((1, 3), np.float32), "grad-cam", layer="linear0", target=0)
