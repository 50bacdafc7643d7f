"""Carrying a map to the input: sums kept, linear, symmetric."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnxexplain as ox
from onnxexplain.graph.receptive_field import Axis
from onnxexplain.transport import resize, spreading, to_input
from tests.nets import NETS, data

PRIORS = ("gauss", "flat", "delta")
priors = pytest.mark.parametrize("prior", PRIORS)


@given(
    st.integers(1, 20),
    st.integers(1, 70),
    st.floats(1, 90),
    st.floats(0.5, 20),
    st.floats(-10, 30),
    st.sampled_from(PRIORS),
)
def test_every_unit_keeps_its_sum(units, size, field, stride, start, prior):
    """At the border too, and where the field misses the image altogether."""
    matrix = spreading(Axis(field, stride, start), units, size, prior)
    assert matrix.shape == (size, units)
    assert np.isfinite(matrix).all()
    assert (matrix >= 0).all()
    assert np.allclose(matrix.sum(0), 1)


@priors
def test_sums_of_maps(prior, rng):
    """``P`` not divisible by ``N``, the two axes unlike."""
    values = rng.standard_normal((2, 3, 7, 5))
    field = (Axis(11, 6, 2.5), Axis(9, 5, 1.0))
    carried = to_input(values, field, (45, 31), prior)
    assert carried.shape == (2, 3, 45, 31)
    assert np.allclose(carried.sum((-1, -2)), values.sum((-1, -2)))


@priors
def test_linear(prior, rng):
    a, b = rng.standard_normal((2, 1, 6, 6))
    field = (Axis(8, 4, 1.5),) * 2
    whole = to_input(2 * a - 3 * b, field, (24, 24), prior)
    parts = 2 * to_input(a, field, (24, 24), prior) - 3 * to_input(b, field, (24, 24), prior)
    assert np.allclose(whole, parts)


@priors
@pytest.mark.parametrize("size", [9, 10])
def test_a_centre_unit_is_symmetric(prior, size):
    """Both for centres on a pixel and between two."""
    one = np.zeros((1, 5, 5))
    one[0, 2, 2] = 1
    start = 20.0 - 8 if size % 2 else 19.5 - 8
    pixels = 41 if size % 2 else 40
    carried = to_input(one, (Axis(size, 4, start),) * 2, (pixels, pixels), prior)[0]
    for turned in (carried[::-1], carried[:, ::-1], carried.T):
        assert np.allclose(carried, turned)
    touched = np.flatnonzero(carried.sum(0))
    expected = size if prior != "delta" else 1 + (size % 2 == 0)
    assert len(touched) == expected
    assert carried.sum() == pytest.approx(1)


def test_two_sigma_is_the_field():
    """The window of a unit reaches from -2 to +2 deviations: sigma is a quarter of the field."""
    column = spreading(Axis(101, 1, 100.0), 1, 201, "gauss")[:, 0]
    assert np.flatnonzero(column).tolist() == list(range(50, 151))
    assert column[150] / column[100] == pytest.approx(np.exp(-0.5 * (50 / 25.25) ** 2))
    flat = spreading(Axis(101, 1, 100.0), 1, 201, "flat")[:, 0]
    assert np.allclose(flat[50:151], 1 / 101)
    delta = spreading(Axis(101, 1, 100.0), 1, 201, "delta")[:, 0]
    assert np.flatnonzero(delta).tolist() == [100]


def test_at_the_border_the_window_is_cut():
    column = spreading(Axis(9, 1, 0.0), 1, 50, "flat")[:, 0]
    assert np.flatnonzero(column).tolist() == [0, 1, 2, 3, 4]


def test_the_input_itself_is_left_alone(rng):
    values = rng.standard_normal((1, 8, 8))
    assert np.array_equal(to_input(values, (Axis(1, 1, 0.0),) * 2, (8, 8)), values)


@priors
def test_units_that_see_everything(prior):
    """The head's constants get the whole image; its map is centred."""
    carried = to_input(np.array([[[2.0]]]), None, (20, 30), prior)[0]
    assert carried.sum() == pytest.approx(2)
    assert np.allclose(carried, carried[::-1, ::-1])


@priors
@pytest.mark.parametrize("field", ["true", "nominal"])
@pytest.mark.parametrize("name", ["blocked", "residual", "squeeze-and-excite", "pad-with-value"])
def test_the_final_map_is_the_score(name, prior, field):
    """Shares and transported constants together are the score, whatever the prior."""
    proto = NETS[name]
    e = ox.explain(proto, data(proto, 2), targets=[0, 3], prior=prior, receptive_field=field)
    final = e.heatmap()
    assert final.shape == (2, 2, 8, 8)
    assert final.dtype == np.float32
    assert final.sum((-1, -2), dtype=np.float64) == pytest.approx(e.score, abs=2e-5)
    bare = e.heatmap(constants=False)
    assert np.allclose(final - bare, e.constant_map, atol=1e-6)


WITHOUT_MAPS = {"layer-norm-statistics"}
"""What an operator of several outputs adds is told as a total, and drawn nowhere."""


@pytest.mark.parametrize("name", NETS)
def test_every_net_has_a_map(name):
    proto = NETS[name]
    e = ox.explain(proto, data(proto, 2), target=1)
    expected = (2, 8, 8) if e.inputs[next(iter(e.inputs))].ndim == 4 else None
    if name == "reductions":
        expected = (2, 4, 4)
    final = e.heatmap()
    if expected:
        assert final.shape == expected
    assert np.isfinite(final).all()
    if e.source is not None and name not in WITHOUT_MAPS:
        assert final.reshape(2, -1).sum(1, dtype=np.float64) == pytest.approx(e.score, abs=2e-5)


def test_resize_is_half_pixel():
    """Bilinear between half-pixel centres, as ONNX's Resize does it."""
    import onnxruntime

    from tests.builders import net

    proto = net(
        """(float[1,1,3,4] x) => (float[1,1,a,b] y) {
            y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, , , sizes)
        }""",
        sizes=np.array([1, 1, 7, 10]),
    )
    x = np.random.default_rng(0).standard_normal((1, 1, 3, 4)).astype(np.float32)
    theirs = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    assert np.allclose(resize(x, (7, 10)), theirs, atol=1e-6)
    assert np.array_equal(resize(x, (3, 4)), x)
    assert np.allclose(resize(x[..., :1, :1], (5, 5)), x[..., :1, :1])
