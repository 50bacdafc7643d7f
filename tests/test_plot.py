"""Figures: one scale, the map pixel for pixel, nothing cut off."""

from io import BytesIO

import numpy as np
import onnx
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import onnxexplain as ox
from onnxexplain.figures import plot
from onnxexplain.figures.panels import Panel, Scale, sheet, signed_limit
from onnxexplain.figures.view import View
from onnxexplain.figures.wrapping import wrapped
from onnxexplain.photograph.image import prepare
from onnxexplain.photograph.recipe import recipe_for
from tests.builders import net, weights
from tests.pictures import LABELS, classifier, photograph


@pytest.fixture(scope="module")
def model():
    return ox.load(classifier(labels=LABELS))


@pytest.fixture(scope="module")
def picture(model):
    return prepare(photograph(), recipe_for(model, model.inputs["x"], None, {}))


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(plot.png(figure))).convert("RGB"))


def words(figure) -> str:
    axes = [t for ax in figure.axes for t in (ax.get_title(loc="left"), ax.get_title())]
    return "\n".join([*(t.get_text() for t in figure.texts), *axes])


def test_the_scale_is_symmetric_and_zero_is_white():
    scale = Scale.signed([np.float32([[-1, 0, 3]])])
    assert scale.low == -scale.high == -3
    assert (scale.rgb(np.float32([0])) >= 250).all()


def test_a_few_extremes_do_not_bleach_the_map():
    values = np.random.default_rng(0).normal(size=(200, 200))
    values[0, 0] = 1e6
    assert 2 < signed_limit([values]) < 5
    assert signed_limit([np.zeros((3, 3))]) > 0


def test_every_pixel_of_a_map_is_drawn():
    values = np.random.default_rng(0).normal(size=(400, 500))
    figure = sheet([Panel(values, "a map")], Scale.signed([values]), "heading")
    drawn, scale = pixels(figure), Scale.signed([values])
    box = figure.axes[0].get_position()
    height, width = drawn.shape[:2]
    left, top = round(box.x0 * width), round((1 - box.y1) * height)
    inner = drawn[top + 5 : top + 395, left + 5 : left + 495]
    np.testing.assert_array_equal(inner, scale.rgb(values)[5:395, 5:495])


@pytest.mark.parametrize(
    "method", ["score-propagation", "gradient", "input-x-gradient", "grad-cam"]
)
@pytest.mark.parametrize("targets", [None, "all"])
def test_a_figure_says_what_it_shows(model, picture, method, targets):
    e = ox.explain(model, picture.values, method, targets=targets)
    figure = plot.explanation_figure(e, picture, truth=1)
    said = words(figure)
    assert method in said
    assert "True: 1 dog" in said
    assert "score" in said
    assert pixels(figure).std() > 5


def test_no_text_leaves_the_figure(model, picture):
    e = ox.explain(model, picture.values, targets="all")
    figure = plot.explanation_figure(e, picture)
    FigureCanvasAgg(figure).draw()
    texts = [*figure.texts, *(ax.yaxis.get_offset_text() for ax in figure.axes)]
    texts += [text for ax in figure.axes for text in (ax._left_title, ax.yaxis.label)]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, text.get_text()
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1, text.get_text()


def test_batches_tables_and_signals_have_figures(model, rng):
    batch = rng.standard_normal((3, 3, 24, 24)).astype(np.float32)
    assert "3 samples" in words(plot.explanation_figure(ox.explain(model, batch)))
    table = net(
        "(float[N,5] x) => (float[N,2] y) { y = Gemm(x, w, b) }", **weights(1, w=(5, 2), b=(2,))
    )
    e = ox.explain(table, np.ones((1, 5), np.float32), targets="all")
    assert len(plot.explanation_figure(e).axes) == 2


def test_samples_stand_side_by_side_each_on_its_own_scale(model, rng):
    batch = rng.standard_normal((5, 3, 24, 24)).astype(np.float32)
    batch[1] *= 1e-3
    figure = plot.explanation_figure(ox.explain(model, batch, "input-x-gradient", target=0))
    assert len(figure.axes) == 11
    assert len({round(ax.get_position().y0, 3) for ax in figure.axes[:10]}) == 1
    for ax in figure.axes[1:10:2]:
        assert np.abs(ax.images[0].get_array()).max() == pytest.approx(1, rel=1e-3)


def test_a_map_without_a_sign_begins_at_zero(model, picture):
    e = ox.explain(model, picture.values, "gradient", part="squared", target=0)
    figure = plot.explanation_figure(e, picture)
    assert figure.axes[-1].get_ylim()[0] == 0
    assert "higher on the colour bar" in words(figure)


def test_long_names_break_behind_a_slash():
    name = "/features/denseblock1/denselayer1/conv2/Conv_output_0"
    lines = wrapped(name, 180, 12).split("\n")
    assert "".join(lines) == name
    assert max(map(len, lines)) <= 25
    assert all(line.endswith(("/", "_")) for line in lines[:-1])
    assert wrapped("a" * 30, 120, 12) == "a" * 16 + "\n" + "a" * 14


def test_classes_that_exclude_no_other_are_all_named(picture):
    """Behind a sigmoid each class has a probability of its own."""
    proto = classifier(labels=LABELS)
    proto.graph.node.append(onnx.helper.make_node("Sigmoid", ["y"], ["odds"]))
    proto.graph.output[0].name = "odds"
    for bias, said in (([4, 4, -4], "0 cat, 1 dog."), ([-4, -5, -6], "none; the likeliest is 0")):
        held = next(t for t in proto.graph.initializer if t.name == "c")
        held.CopyFrom(onnx.numpy_helper.from_array(np.float32(bias) * 100, "c"))
        e = ox.explain(proto, picture.values, "grad-cam", target=0)
        assert f"Predicted: {said}" in words(plot.explanation_figure(e, picture))


def test_another_colour_map_is_named_or_refused(model, picture):
    e = ox.explain(model, picture.values)
    assert "upper end" in words(plot.explanation_figure(e, picture, cmap="PuOr"))
    with pytest.raises(ox.MethodError, match="nearest: seismic"):
        plot.explanation_figure(e, picture, cmap="seismik")


def test_the_blinking_picture_blinks_without_end(model, picture):
    view = View(ox.explain(model, picture.values), 0, picture)
    where = view.two_sigma()[0]
    assert 0 < where.sum() < where.size
    with Image.open(BytesIO(plot.blinking(view.photograph, where))) as gif:
        assert gif.n_frames == 2
        assert gif.info["loop"] == 0
        frames = []
        for i in range(2):
            gif.seek(i)
            assert gif.info["duration"] == 2500
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
    changed = np.abs(frames[0] - frames[1]).sum(-1) > 0
    assert not changed[~where].any()
    assert changed[where].mean() > 0.8


def test_figures_of_layers_and_features(model, picture):
    view = View(ox.explain(model, picture.values, targets="all"), 0, picture)
    assert view.blocks() == ["a", "r"]
    assert view.features() == "f"
    assert pixels(plot.layer_figure(view, "a")).std() > 5
    assert pixels(plot.two_sigma_figure(view)).std() > 5
    grid = plot.grid_figure(view.pick(view.e.layers["r"].score)[0], "eight maps")
    assert len(grid.axes) == 9
    scores = view.unit_scores("f")
    np.testing.assert_allclose(
        scores.sum(-1), view.pick(view.e.score) - view.pick(view.e.constants["y"]), rtol=1e-4
    )
    assert len(plot.features_figure(scores, view.titles(), "features").axes) == 3


def test_pyplot_is_never_touched(model, picture):
    import sys

    before = "matplotlib.pyplot" in sys.modules  # another test's framework may have brought it
    plot.png(plot.explanation_figure(ox.explain(model, picture.values), picture))
    assert before or "matplotlib.pyplot" not in sys.modules
