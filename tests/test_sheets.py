"""All layers at once, the sheet they are drawn on, and the figure of what is for and against."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox
from onnxexplain.figures import contact, plot
from onnxexplain.figures.signs import capped, scaled
from onnxexplain.figures.view import View
from onnxexplain.photograph.image import prepare
from onnxexplain.photograph.recipe import recipe_for
from tests.builders import net, weights
from tests.pictures import LABELS, classifier, photograph
from tests.test_cams import GAP, POOLED_BY_1X1

STAGED = net(
    """(float[N,3,16,16] x) => (float[N,4] y) {
        h = Conv<pads=[1,1,1,1]>(x, w, b)  a = Relu(h)
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
        k = Conv<pads=[1,1,1,1]>(p, w2)  s = Add(k, p)  r = Relu(s)
        e = Conv(r, w3)  j = Concat<axis=1>(r, e)
        m = AveragePool<kernel_shape=[2,2], strides=[2,2]>(j)
        g = GlobalAveragePool(m)  f = Flatten(g)  y = Gemm<transB=1>(f, v, c) }""",
    **weights(2, w=(6, 3, 3, 3), b=(6,), w2=(6, 6, 3, 3), w3=(2, 6, 1, 1), v=(4, 8), c=(4,)),
)
LAYERS = ("a", "p", "k", "r", "e", "j", "m")
engines = pytest.mark.parametrize("engine", ["eager", "compiled"])


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return ox.load(classifier(labels=LABELS))


@pytest.fixture(scope="module")
def picture(model):
    return prepare(photograph(), recipe_for(model, model.inputs["x"], None, {}))


def words(figure) -> str:
    titles = (ax.get_title(loc="left") for ax in figure.axes)
    return "\n".join([*(t.get_text() for t in figure.texts), *titles])


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(plot.png(figure))).convert("RGB"))


# ----- All layers -----


@engines
@pytest.mark.parametrize("target", [{"target": 1}, {"targets": [1, 3]}])
def test_every_layer_at_once_is_each_alone(x, engine, target):
    e = ox.explain(STAGED, x, "grad-cam", layer="all", engine=engine, **target)
    assert tuple(e.attributions) == e.all_layers == LAYERS
    assert e.layer == ox.explain(STAGED, x, "grad-cam", target=0).layer == "m"
    for name in LAYERS:
        alone = ox.explain(STAGED, x, "grad-cam", layer=name, engine=engine, **target)
        np.testing.assert_allclose(e.attributions[name], alone.attributions[name], atol=1e-6)
        np.testing.assert_allclose(e.heatmap(layer=name), alone.heatmap(), atol=1e-6)
    np.testing.assert_array_equal(e.heatmap(), e.heatmap(layer="m"))


@engines
def test_guided_grad_cam_of_every_layer_stands_under_the_layers(x, engine):
    e = ox.explain(STAGED, x, "guided-grad-cam", layer="all", target=2, engine=engine)
    assert tuple(e.attributions) == LAYERS
    assert e.layer is None
    for name in LAYERS:
        alone = ox.explain(STAGED, x, "guided-grad-cam", layer=name, target=2, engine=engine)
        np.testing.assert_allclose(e.attributions[name], alone.attributions["x"], atol=1e-6)
        np.testing.assert_allclose(e.heatmap(layer=name), alone.heatmap(), atol=1e-6)


def test_a_cam_takes_the_layers_that_only_linear_ones_follow(rng):
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    e = ox.explain(POOLED_BY_1X1, x, "cam", layer="all", target=2)
    assert tuple(e.attributions) == ("a", "s")
    np.testing.assert_allclose(e.attributions["a"], e.attributions["s"], atol=1e-6)
    assert tuple(ox.explain(GAP, x, "cam-topk", layer="all", target=2).attributions) == ("a",)


def test_channels_last_have_layers_too(rng):
    x = rng.standard_normal((1, 8, 8, 3)).astype(np.float32)
    last = net(
        """(float[N,8,8,3] x) => (float[N,4] y) {
            t = Transpose<perm=[0,3,1,2]>(x)  h = Conv<pads=[1,1,1,1]>(t, w, b)
            z = Transpose<perm=[0,2,3,1]>(h)  a = Relu(z)
            m = ReduceMean<keepdims=0>(a, axes)  y = Gemm<transB=1>(m, v, c) }""",
        axes=[1, 2],
        **weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6), c=(4,)),
    )
    for method in ("grad-cam", "guided-grad-cam"):
        e = ox.explain(last, x, method, layer="all", target=2)
        first = ox.explain(GAP, np.moveaxis(x, -1, 1).copy(), method, layer="a", target=2)
        np.testing.assert_allclose(e.heatmap(layer="a"), first.heatmap(), atol=1e-6)


@pytest.mark.parametrize(
    ("method", "layer", "said"),
    [("crm", "all", "one layer at a time"), ("gradient", "all", "see layers=")],
)
def test_methods_that_cannot_say_so(x, method, layer, said):
    with pytest.raises(ox.MethodError, match=said):
        ox.explain(STAGED, x, method, layer=layer, target=0)


def test_an_unknown_layer_is_named_with_its_likes(x):
    e = ox.explain(STAGED, x, "grad-cam", layer="all", target=0)
    with pytest.raises(ox.MethodError, match="no map of the layer `q`; nearest"):
        e.heatmap(layer="q")


# ----- The sheet -----


@pytest.mark.parametrize("method", ["grad-cam", "guided-grad-cam"])
def test_the_sheet_shows_every_layer_in_order(model, picture, method):
    e = ox.explain(model, picture.values, method, layer="all", target=1)
    assert e.all_layers == ("a", "p", "r")
    figure = plot.explanation_figure(e, picture, truth=0)
    said = words(figure)
    assert "at every layer" in said and "1 dog" in said and "True: 0 cat" in said
    assert said.index("\na") < said.index("\np") < said.index("\nr")
    assert pixels(figure).std() > 5
    assert e.plot(picture).texts[0].get_text() == e.plot().texts[0].get_text()


def test_many_layers_are_thinned_out_evenly(x, monkeypatch):
    monkeypatch.setattr(contact, "MOST", 3)
    e = ox.explain(STAGED, x[:1], "grad-cam", layer="all", target=1, relu=False)
    figure = contact.contact_figure(View(e))
    assert "3 of 7 layers" in words(figure)
    assert [ax.get_title(loc="left").split("\n")[0] for ax in figure.axes[1:4]] == ["a", "r", "m"]
    scale = figure.axes[-1].get_ylim()
    assert -1 <= scale[0] < 0 < scale[1] == 1


def test_a_single_layer_has_no_sheet(x):
    with pytest.raises(ox.MethodError, match='layer="all"'):
        contact.contact_figure(View(ox.explain(STAGED, x, "grad-cam", target=1)))


# ----- For and against -----


def test_scaled_and_capped_keep_their_promises(rng):
    g = rng.standard_normal((3, 40, 40)).astype(np.float32)
    whole, rise, fall = scaled(g), scaled(np.maximum(g, 0)), scaled(np.maximum(-g, 0))
    for part in (whole, rise, fall):
        assert part.min() == 0
        assert part.max() == 1
    assert not ((rise > 0) & (fall > 0)).any()
    np.testing.assert_allclose(rise, np.maximum(g, 0) / g.max(), rtol=1e-6)
    np.testing.assert_allclose(fall, np.maximum(-g, 0) / -g.min(), rtol=1e-6)
    grey = capped(g)
    total = np.abs(g).sum(0)
    assert (grey.min(), grey.max()) == (0, 1)
    assert (grey == 1).mean() >= 0.01
    np.testing.assert_array_equal(grey == 1, total >= np.percentile(total, 99))


def test_a_map_without_differences_is_black():
    assert not scaled(np.full((3, 4, 4), 0.7)).any()
    assert not capped(np.full((3, 4, 4), 0.7)).any()
    few = np.zeros((1, 40, 40))
    few[0, 3, 5] = 2  # fewer than one in a hundred: the percentile is zero
    assert capped(few)[3, 5] == 1
    assert capped(few).sum() == 1


@pytest.mark.parametrize("method", ["gradient", "guided-backprop", "score-propagation"])
def test_the_figure_has_nine_panels(model, picture, method):
    e = ox.explain(model, picture.values, method, target=1)
    figure = e.plot(picture, kind="signs")
    said = words(figure)
    assert len(figure.axes) == 9
    for what in ("the photograph", "what the model sees", "all", "positive", "negative", "99th"):
        assert what in said
    assert len(ox.explain(model, picture.values, method, target=1).plot(kind="signs").axes) == 9


def test_colours_are_the_channels_own(model, picture):
    """In a model of BGR images the first channel is the blue one."""
    from dataclasses import replace

    e = ox.explain(model, picture.values, "gradient", target=1)
    turned = replace(picture, recipe=replace(picture.recipe, channels="bgr"))
    rgb, bgr = (pixels(e.plot(p, kind="signs")) for p in (picture, turned))
    height, width = rgb.shape[:2]
    middle = np.s_[height // 2 - 40 : height // 2 + 40, : width // 3]
    assert not np.array_equal(rgb[middle], bgr[middle])
    np.testing.assert_array_equal(rgb[middle], bgr[middle][..., ::-1])


def test_no_panel_is_empty(model, picture):
    """Without a photograph the input itself and the map on it are shown."""
    figure = ox.explain(model, picture.values, "gradient", target=1).plot(kind="signs")
    assert [len(ax.get_title(loc="left")) > 1 for ax in figure.axes] == [True] * 9
    for ax in figure.axes[:3]:
        assert np.asarray(ax.images[0].get_array()).std() > 1


@pytest.mark.parametrize("method", ["grad-cam", "crm"])
def test_a_cam_has_no_signs(model, picture, method):
    e = ox.explain(model, picture.values, method, target=1)
    with pytest.raises(ox.MethodError, match="pixels"):
        e.plot(kind="signs")
    with pytest.raises(ox.MethodError, match="maps, signs"):
        e.plot(kind="sines")


# ----- Boxes, drawn -----


@pytest.mark.parametrize("method", ["grad-cam", "gradient"])
def test_boxes_have_a_panel_of_their_own(model, picture, method):
    e = ox.explain(model, picture.values, method, targets=[0, 1])
    figure = plot.explanation_figure(e, picture, boxes=0.5, min_size=1)
    boxes = e.boxes(0.5, min_size=1)
    panel = figure.axes[3]
    assert f"{len(boxes)} box" in panel.get_title(loc="left")
    assert len(panel.patches) == len(boxes)
    assert len({patch.get_edgecolor() for patch in panel.patches}) == 2
    said = {text.get_text() for text in panel.texts}
    assert {"0 cat", "1 dog"} <= said
    assert {f"{e.probabilities[0, c]:.0%}" for c in (0, 1)} <= said


def test_a_box_lies_on_the_photograph_where_it_lay_on_the_map(model, picture):
    """24 x 24 out of the middle 40 x 40 of 60 x 40."""
    e = ox.explain(model, picture.values, "grad-cam", target=1)
    box = e.boxes(0.5)[0]
    patch = plot.explanation_figure(e, picture, boxes=0.5).axes[2].patches[0]
    side = 40 / 24
    assert patch.get_x() == pytest.approx(10 + box["x0"] * side - 0.5)
    assert patch.get_y() == pytest.approx(box["y0"] * side - 0.5)
    assert patch.get_width() == pytest.approx((box["x1"] - box["x0"]) * side)
    assert patch.get_height() == pytest.approx((box["y1"] - box["y0"]) * side)


@pytest.mark.parametrize(
    ("method", "options", "panels"),
    [
        ("gradient", {}, 2),
        ("grad-cam", {}, 2),
        ("grad-cam", {"layer": "all"}, 4),
        ("cnn-fixations", {}, 3),
    ],
)
def test_what_is_known_is_outlined_on_every_panel(model, picture, method, options, panels):
    e = ox.explain(model, picture.values, method, target=1, **options)
    figure = e.plot(known=(2, 3, 10, 8))
    outlined = [ax.patches[0] for ax in figure.axes if ax.patches]
    assert len(outlined) == panels
    assert {(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in outlined} == {
        (1.5, 2.5, 8, 5)
    }
    assert all(len(ax.patches) == 2 for ax in e.plot(known=[(0, 0, 3, 3), (4, 4, 9, 9)]).axes[:2])


def test_what_is_known_lies_on_the_photograph_too(model, picture):
    """24 x 24 out of the middle 40 x 40 of 60 x 40; none on the photograph whole, on paper."""
    e = ox.explain(model, picture.values, "grad-cam", target=1)
    patch = e.plot(picture, known=(0, 0, 24, 12)).axes[0].patches[0]
    assert (patch.get_x(), patch.get_width(), patch.get_height()) == (9.5, 40, 20)
    e = ox.explain(model, picture.values, "gradient", target=1)
    signs = e.plot(picture, kind="signs", known=(0, 0, 24, 12))
    assert [len(ax.patches) for ax in signs.axes] == [0] + [1] * 8
    with pytest.raises(ox.MethodError, match="x0, y0, x1, y1"):
        e.plot(known=(1, 2, 3))


# ----- The sum of all scores -----


@engines
def test_the_sum_of_all_scores_is_a_target(x, engine):
    every = ox.explain(STAGED, x, "gradient", targets="all", engine=engine)
    for target in ("sum", np.ones((2, 4), np.float32)):
        e = ox.explain(STAGED, x, "gradient", target=target, engine=engine)
        assert e.target is None
        np.testing.assert_allclose(e.score, every.score.sum(0), rtol=1e-5)
        np.testing.assert_allclose(
            e.attributions["x"], every.attributions["x"].sum(0), rtol=1e-4, atol=1e-7
        )
    squared = ox.explain(STAGED, x, "gradient", target="sum", part="squared", engine=engine)
    np.testing.assert_allclose(squared.attributions["x"], e.attributions["x"] ** 2, rtol=1e-4)
