"""Sequences, tables and volumes: which axis is which, and figures that show it."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox
from onnxexplain.figures import plot
from onnxexplain.figures.report import page
from onnxexplain.figures.view import View
from onnxexplain.figures.volumes import SLICES
from tests.builders import net, weights
from tests.nets_recurrent import cells, recurrent

SIGNAL = net(
    """(float[N,2,40] x) => (float[N,3] y) { h = Conv<pads=[2,2]>(x, w, b)  r = Relu(h)
    g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm(f, v, c) }""",
    **weights(1, w=(4, 2, 5), b=(4,), v=(4, 3), c=(3,)),
)
VOLUME = net(
    """(float[N,1,20,5,6] x) => (float[N,3] y) { h = Conv<pads=[1,1,1,1,1,1]>(x, w, b)  r = Relu(h)
    g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm(f, v, c) }""",
    **weights(1, w=(4, 1, 3, 3, 3), b=(4,), v=(4, 3), c=(3,)),
)
TABLE = net(
    "(float[N,5] x) => (float[N,2] y) { y = Gemm(x, w, b) }", **weights(1, w=(5, 2), b=(2,))
)
TOKENS = net(
    """(int64[N,T] ids) => (float[N,3] y) { h = Gather(table, ids)  p = Add(h, place)
    q = MatMul(p, w)  r = Relu(q)  m = ReduceMean<keepdims=0>(r, one)  y = MatMul(m, v) }""",
    one=[1],
    **weights(1, table=(30, 8), place=(7, 8), w=(8, 8), v=(8, 3)),
)
SERIES = recurrent("Y, H = LSTM<hidden_size=3>(t, W, R, B)", **cells(4))
IDS = np.arange(7)[None] * 3


def values(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def words(figure) -> str:
    said = [t.get_text() for t in figure.texts]
    for ax in figure.axes:
        said += [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()]
    return "\n".join(said)


def heights(ax) -> list[float]:
    """The bars of a plot."""
    return [patch.get_height() for patch in ax.patches]


def plots(figure) -> list:
    return [ax for ax in figure.axes if ax.patches]


def strips(figure) -> list:
    return [ax for ax in figure.axes if ax.images]


# ----- Which axis is which -----


def test_steps_of_a_recurrence_are_no_channels():
    """The map of [samples, steps, channels] has a value for every step, and adds up."""
    x = values(1, 5, 6)
    e = ox.explain(SERIES, x, target=1)
    assert e.heatmap().shape == (1, 5)
    assert e.heatmap().sum() == pytest.approx(e.score[0], abs=1e-5)
    assert np.allclose(e.heatmap(constants=False), e.attributions["x"].sum(-1), atol=1e-6)


def test_steps_that_come_first():
    proto = net(
        """(float[T,1,6] x) => (float[N,3] y)
        { , H = RNN<hidden_size=3>(x, W, R, B)  y = Squeeze(H, zero) }""",
        zero=[0],
        **cells(1),
    )
    e = ox.explain(proto, values(5, 1, 6), target=1)
    assert e.heatmap().shape == (1, 5)
    assert e.heatmap().sum() == pytest.approx(e.score[0], abs=1e-5)
    figure = e.plot()
    assert "step (axis 0 of `x`)" in words(figure)
    assert heights(plots(figure)[0]) == pytest.approx(e.attributions["x"].sum((1, 2)), abs=1e-6)


def test_tokens_have_a_value_each():
    e = ox.explain(TOKENS, IDS, "input-x-gradient", wrt=["h"], target=1)
    assert np.allclose(e.heatmap(), e.attributions["h"].sum(-1), atol=1e-6)


def test_a_signal_keeps_its_channels_in_front():
    e = ox.explain(SIGNAL, values(1, 2, 40), target=1)
    assert e.heatmap().shape == (1, 40)
    assert e.heatmap().sum() == pytest.approx(e.score[0], abs=1e-5)


def test_ids_are_told_what_to_name():
    with pytest.raises(ox.MethodError, match=r"name what they become with wrt=, such as `h`"):
        ox.explain(TOKENS, IDS)


# ----- Figures -----


def test_every_step_has_a_bar_and_a_column():
    x = values(2, 5, 6)
    e = ox.explain(SERIES, x, targets=[0, 2])
    figure = e.plot()
    said = words(figure)
    assert "what the model sees: `x`" in said
    assert "step (axis 1 of `x`)" in said
    assert "The first of 2 samples" in said
    given = e.attributions["x"][:, 0]
    for drawn, strip, own in zip(plots(figure), strips(figure), given, strict=True):
        assert heights(drawn) == pytest.approx(own.sum(-1), abs=1e-6)
        np.testing.assert_array_equal(strip.images[0].get_array(), own.T)
    for k in range(2):
        assert f"shares {given[k].sum():.3g}"[:-1] in said
    assert len({ax.images[0].norm.vmax for ax in strips(figure)}) == 1


def test_channels_in_front_are_drawn_below_one_another():
    e = ox.explain(SIGNAL, values(1, 2, 40), target=1)
    figure = e.plot(cmap="PuOr")
    assert "step (axis 2 of `x`)" in words(figure)
    (strip,) = strips(figure)
    np.testing.assert_array_equal(strip.images[0].get_array(), e.attributions["x"][0])
    assert strip.images[0].get_cmap().name == "PuOr"


def test_a_cam_lies_over_the_signal():
    e = ox.explain(SIGNAL, values(1, 2, 40), "grad-cam", target=1)
    figure = e.plot()
    assert "High is where the class is seen in `r`" in words(figure)
    (drawn,) = plots(figure)
    assert heights(drawn) == pytest.approx(e.heatmap()[0])
    assert drawn.get_ylim()[0] == 0 or e.heatmap().min() < 0


def test_a_cam_of_a_signal_looked_at_as_a_picture():
    """Exporters pool a signal as a picture of one row."""
    proto = net(
        """(float[N,2,40] x) => (float[N,3] y) { h = Conv<pads=[2,2]>(x, w, b)  r = Relu(h)
        u = Unsqueeze(r, two)  g = GlobalAveragePool(u)  f = Flatten(g)  y = Gemm(f, v, c) }""",
        two=[2],
        **weights(1, w=(4, 2, 5), b=(4,), v=(4, 3), c=(3,)),
    )
    x = values(1, 2, 40)
    ours, plain = (ox.explain(p, x, "grad-cam", target=1).heatmap() for p in (proto, SIGNAL))
    assert ours.shape == (1, 40)
    assert np.allclose(ours, plain, atol=1e-6)


def test_tokens_are_drawn_without_what_the_model_sees():
    e = ox.explain(TOKENS, IDS, wrt=["h"], target=1)
    said = words(e.plot())
    assert "step (axis 1 of `h`)" in said
    assert "what the model sees" not in said


def test_a_table_has_a_bar_per_feature():
    e = ox.explain(TABLE, values(1, 5), targets="all")
    figure = e.plot()
    assert not strips(figure)
    for ax, own in zip(plots(figure), e.attributions["x"][:, 0], strict=True):
        assert heights(ax) == pytest.approx(own)
    assert "feature of `x`" in words(figure)


def test_a_map_without_a_sign_is_said_to_have_none():
    e = ox.explain(SERIES, values(1, 5, 6), "gradient", part="absolute", target=1)
    figure = e.plot()
    assert "The higher, the more" in words(figure)
    assert plots(figure)[0].get_ylim()[0] == 0


def test_a_volume_is_drawn_slice_by_slice():
    x = values(1, 1, 20, 5, 6)
    x[:, :, 13] *= 50
    e = ox.explain(VOLUME, x, targets=[0, 2])
    figure = e.plot()
    panels = [ax for ax in figure.axes if ax.images and ax.get_title(loc="left")]
    assert len(panels) == 3 * SLICES
    maps = e.heatmap()[:, 0]
    weights_of = np.abs(maps).sum((0, 2, 3))
    strongest = f"slice {weights_of.argmax() + 1} of 20"
    said = words(figure)
    assert strongest in said.replace("\n", " ")
    first = panels[SLICES].images[0].get_array()
    np.testing.assert_array_equal(first, maps[0, 0])
    assert maps[0].sum() == pytest.approx(e.score[0, 0], rel=1e-4)


@pytest.mark.parametrize("case", ["series", "volume", "table"])
def test_the_page_shows_the_figure(case):
    proto, x = {
        "series": (SERIES, values(1, 5, 6)),
        "volume": (VOLUME, values(1, 1, 20, 5, 6)),
        "table": (TABLE, values(1, 5)),
    }[case]
    e = ox.explain(proto, x, target=0)
    text = page(View(e))
    assert ('class="figure"' in text) == (case != "table")
    assert ("Bars of 5 elements" in text) == (case == "table")
    drawn = Image.open(BytesIO(plot.png(e.plot())))
    assert np.asarray(drawn.convert("L")).std() > 5
