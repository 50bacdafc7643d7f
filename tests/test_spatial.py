"""Explained pixels, receptive fields behind what makes a map larger, and old spellings."""

import numpy as np
import onnxruntime
import pytest

import onnxexplain as ox
from onnxexplain.graph import lower, receptive_fields
from onnxexplain.runtime import run_once
from tests.builders import Numeric, net, weights
from tests.nets_spatial import unet

both_engines = pytest.mark.parametrize("engine", ["eager", "compiled"])


def image(n=1, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, 16, 16)).astype(np.float32)


# ----- A pixel of a U-Net -----

PIXEL = (2, 9, 5)


@both_engines
def test_a_pixel_is_explained(engine):
    """The score of a class at a pixel is shared out among what the pixel sees, and conserved."""
    proto, x = unet(), image(2)
    e = ox.explain(proto, x, engine=engine, target=PIXEL)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    scores = session.run(["map"], {"x": x})[0][(slice(None), *PIXEL)]
    assert np.allclose(e.score, scores, atol=1e-5)
    assert np.abs(e.residual).max() < 1e-5
    given = e.attributions["x"].reshape(2, -1).sum(1, dtype=np.float64)
    assert np.allclose(given + e.constant, e.score, atol=1e-5)
    assert not np.allclose(e.attributions["x"][0], e.attributions["x"][1])


def test_both_engines_explain_a_pixel_alike():
    eager, compiled = (
        ox.explain(unet(), image(), engine=engine, target=PIXEL, layers="all")
        for engine in ("eager", "compiled")
    )
    assert np.allclose(eager.attributions["x"], compiled.attributions["x"], atol=1e-6)
    assert list(eager.layers) == list(compiled.layers)
    for name, layer in eager.layers.items():
        assert np.allclose(layer.score, compiled.layers[name].score, atol=1e-6)


def test_a_pixels_gradient_is_the_central_difference():
    proto, x = unet(), image()
    seed = np.zeros((1, 4, 16, 16), np.float32)
    seed[(0, *PIXEL)] = 1
    e = ox.explain(proto, x, "gradient", target=PIXEL, engine="eager", dtype="float64")
    direction = {"x": np.random.default_rng(1).standard_normal(x.shape)}
    numeric = Numeric(proto, {"x": x}, "map", seed).along(direction)
    assert (e.attributions["x"] * direction["x"]).sum() == pytest.approx(numeric, rel=1e-6)


def test_pixels_are_explained_together():
    pixels = [(0, 0, 0), (3, 15, 15), PIXEL]
    many = ox.explain(unet(), image(), targets=pixels)
    for t, pixel in enumerate(pixels):
        one = ox.explain(unet(), image(), target=pixel)
        assert np.allclose(many.attributions["x"][t], one.attributions["x"], atol=1e-7)


def test_every_layer_of_a_u_net_is_carried_to_the_input():
    """The decoder's maps too, whose units lie between the pixels."""
    e = ox.explain(unet(), image(), target=PIXEL, layers="all")
    for name in ("t", "u", "l", "m", "map"):
        layer = e.layers[name]
        assert all(
            axis.stride == 16 / n
            for axis, n in zip(layer.receptive_field, layer.score.shape[2:], strict=True)
        )
        carried = layer.to_input()
        assert carried.shape == (1, 16, 16)
        assert carried.sum() == pytest.approx(
            layer.score_map.sum(dtype=np.float64), rel=1e-5, abs=1e-6
        )


# ----- Receptive fields -----

BETWEEN = {
    "transposed": "ConvTranspose<strides=[2,3], pads=[1,0,2,1]>(c, w2)",
    "transposed-wide": "ConvTranspose<strides=[2,2], dilations=[3,1]>(c, w2)",
    "nearest": "Resize(c, , double)",
    "nearest-floor": 'Resize<coordinate_transformation_mode="asymmetric", '
    'nearest_mode="floor">(c, , double)',
    "linear": 'Resize<mode="linear">(c, , double)',
    "linear-corners": 'Resize<mode="linear", coordinate_transformation_mode="align_corners">'
    "(c, , double)",
    "cubic": 'Resize<mode="cubic">(c, , double)',
    "smaller": 'Resize<mode="linear", antialias=1>(c, , half)',
    "cropped": 'Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">'
    "(c, roi, double)",
    "depth-to-space": "DepthToSpace<blocksize=2>(d)",
    "space-to-depth": "SpaceToDepth<blocksize=2>(c)",
    "padded": "Pad(c, pads)",
    "cut": "Slice(c, starts, ends, axes, steps)",
    "norm": "LpPool<kernel_shape=[3,2], strides=[2,1]>(c)",
}


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("behind", [False, True])
def test_a_unit_sees_no_more_than_its_field(name, behind):
    """What a unit's gradient reaches lies in its field, which is less than two steps wider."""
    last = "e = Conv(y, w3)" if behind else "e = Identity(y)"
    w3 = weights(4, w3=(1, 4, 2, 3)) if behind else {}
    proto = net(
        f"""(float[1,1,24,20] x) => (float[1,o,a,b] e) {{
        c = Conv<strides=[2,1], pads=[1,0,0,1]>(x, w1)  d = Concat<axis=1>(c, c, c, c)
        z = {BETWEEN[name]}  y = Conv(z, one)  {last} }}""",
        double=np.array([1, 1, 2, 2], np.float32),
        half=np.array([1, 1, 0.5, 0.4], np.float32),
        roi=np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9], np.float32),
        pads=[0, 0, 2, 1, 0, 0, 0, 3],
        starts=[1, 2],
        ends=[-1, 15],
        axes=[2, 3],
        steps=[1, 2],
        **weights(2, w1=(4, 1, 3, 2), w2=(4, 4, 3, 3), one=_ones(name)),
        **w3,
    )
    x = np.random.default_rng(0).standard_normal((1, 1, 24, 20)).astype(np.float32)
    lowered = lower(proto, {"x": x.shape}, run_once)
    fields = receptive_fields(lowered.nodes, lowered.shapes, "x", constants=lowered.constants)
    sizes = lowered.shapes["e"][2:]
    spare = []
    for unit in [tuple(n // 2 for n in sizes), tuple(n // 2 - 1 for n in sizes)]:
        e = ox.explain(proto, x, "gradient", target=(0, *unit), wrt=["x"])
        seen = np.nonzero(e.attributions["x"][0, 0])
        for axis, i, places in zip(fields["e"], unit, seen, strict=True):
            centre, reach = axis.start + axis.stride * i, (axis.size - 1) / 2
            assert centre - reach <= places.min() + 1e-5
            assert centre + reach >= places.max() - 1e-5
            spare.append((axis.size - 1 - np.ptp(places)) / max(axis.stride, 2.0))
    assert min(spare[::2]) < 2
    assert min(spare[1::2]) < 2


def _ones(name):
    """The shape of a 1x1 convolution that mixes the channels of ``z``."""
    channels = {"depth-to-space": 4, "space-to-depth": 16}.get(name, 4)
    return (4, channels, 1, 1)


@pytest.mark.parametrize("operator", ["GridSample(c, grid)", "RoiAlign(c, rois, batch)"])
def test_what_cannot_be_followed_has_no_field(operator):
    proto = net(
        f"(float[1,3,8,8] x) => (float[1,2,a,b] y) {{ c = Conv(x, w)  y = {operator} }}",
        grid=np.zeros((1, 3, 3, 2)),
        rois=np.array([[0.0, 0.0, 4.0, 4.0]], np.float32),
        batch=np.array([0]),
        **weights(3, w=(2, 3, 3, 3)),
    )
    lowered = lower(proto, {"x": (1, 3, 8, 8)}, run_once)
    fields = receptive_fields(lowered.nodes, lowered.shapes, "x")
    assert "c" in fields
    assert "y" not in fields


# ----- Old spellings -----


@pytest.mark.parametrize("opset", [7, 8, 9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 1.5, 2.5], [1, 1, 0.75, 0.5]])
@both_engines
def test_resizing_before_opset_11(opset, mode, scales, engine):
    """Upsample, and the first Resize: the converter forgets what they meant, the lowering not."""
    shrinks = min(scales) < 1
    if shrinks and opset < 10:
        return  # Upsample only makes larger
    held, given = {"s": np.array(scales, np.float32)}, "(x, s)"
    operator = "Resize" if opset == 10 else "Upsample"
    says = f'mode="{mode}"'
    if opset < 9:
        says, given, held = f"{says}, scales={[float(s) for s in scales]}", "(x)", {}
    proto = net(
        f"(float[1,2,3,4] x) => (float[1,2,a,b] y) {{ y = {operator}<{says}>{given} }}",
        opset=opset,
        **held,
    )
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    theirs = session.run(None, {"x": x})[0]
    seed = np.random.default_rng(1).standard_normal(theirs.shape).astype(np.float32)
    e = ox.explain(proto, x, engine=engine, target=seed)
    assert np.allclose(e.logits, theirs, atol=1e-6)
    assert abs(e.residual[0]) < 1e-6


@both_engines
def test_regions_before_opset_16(engine):
    """RoiAlign had its positions' corners for middles."""
    proto = net(
        """(float[1,2,6,6] x) => (float[1,2,a,b] y)
        { y = RoiAlign<output_height=2, output_width=2>(x, rois, batch) }""",
        opset=10,
        rois=np.array([[0.3, 0.6, 4.1, 3.9]], np.float32),
        batch=np.array([0]),
    )
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32)
    theirs = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    e = ox.explain(proto, x, engine=engine, target=np.ones_like(theirs))
    assert np.allclose(e.logits, theirs, atol=1e-6)
    assert abs(e.residual[0]) < 1e-6


# ----- Refused by name -----


def test_sizes_that_depend_on_the_input_are_refused():
    proto = net(
        """(float[1,2,6,6] x, float[1,4] r) => (float[1,2,2,2] y)
        { y = RoiAlign<output_height=2, output_width=2>(x, r, batch) }""",
        batch=np.array([0]),
    )
    feeds = {
        "x": np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32),
        "r": np.array([[0.5, 0.5, 4.0, 5.0]], np.float32),
    }
    e = ox.explain(proto, feeds, target=(0, 1, 1), engine="eager")  # looks at the regions
    assert abs(e.residual[0]) < 1e-5
    with pytest.raises(ox.UnsupportedOperator, match=r"RoiAlign .*regions computed from the input"):
        ox.explain(proto, feeds, target=(0, 1, 1), engine="compiled")


def test_a_resize_by_scales_that_vary_is_refused():
    proto = net("""(float[1,2,4,4] x, float[4] s) => (float[1,2,a,b] y) { y = Resize(x, , s) }""")
    feeds = {
        "x": np.ones((1, 2, 4, 4), np.float32),
        "s": np.array([1, 1, 2, 2], np.float32),
    }
    with pytest.raises(ox.OnnxExplainError, match=r"Resize|shape of `y`"):
        ox.explain(proto, feeds, target=(0, 1, 1))


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "MaxPool", "LpPool"])
def test_a_file_in_float64_that_leaves_its_pads_to_the_runtime(operator):
    """The runtime has no such kernels: the file is compared on the reference, padded as it says."""
    weighed = "Conv" in operator
    kernel, cast = ("", "d = Cast<to=11>(w)") if weighed else ("kernel_shape=[3,3], ", "")
    proto = net(
        f"""(double[1,2,4,5] x) => (double[1,2,a,b] y) {{ {cast}
        y = {operator}<{kernel}strides=[2,2], auto_pad="SAME_UPPER">({"x, d" if weighed else "x"})
        }}""",
        **weights(5, w=(2, 2, 3, 3)),
    )
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5))
    assert abs(ox.explain(proto, x, target=(0, 1, 1)).residual[0]) < 1e-5
