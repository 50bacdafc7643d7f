"""The authors' article of February 2018, reproduced on their weights and their photograph.

The photograph was cut out of a figure and so slightly resampled: patterns are compared, not pixels.
"""

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image, ImageFilter

import onnxexplain as ox
from onnxexplain.graph.receptive_field import Axis
from onnxexplain.transport import to_input

pytestmark = pytest.mark.oracle

SCORES = [-327.3, -227.3, -117.8, 11.4, 105.8]


@pytest.fixture(scope="module")
def explanation(data, tmp_path_factory):
    pytest.importorskip("torch", reason="the authors' checkpoint is a torch file")
    path = tmp_path_factory.mktemp("dr") / "dr_authors.onnx"
    ox.dr_network(data("dr_authors_QWKval0814.pth.tar"), path)
    pixels = np.asarray(Image.open(data("fundus_640.png")).convert("RGB"), np.float32) / 255
    mean, std = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
    x = ((pixels - mean) / std).transpose(2, 0, 1)[None]
    e = ox.explain(path, x, targets="all", receptive_field="nominal")
    e.fetch(maps=e.blocks, constants=True)  # in one run instead of one for every test
    return e


def blurred(mask):
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(4)), np.float64)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def panels(path, count=5):
    """The maps of a figure of the article, read back from their colours."""
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float64)
    dark = pixels.max(axis=2) < 40
    bottom = int(dark.sum(axis=1).argmax())  # the frames' lower edges
    ends = np.flatnonzero(np.diff(np.pad(dark[bottom].astype(int), 1)))
    frames = [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if b - a > 150]
    maps = [pixels[bottom - (b - a) + 3 : bottom - 1, a + 2 : b - 2] for a, b in frames]  # square
    return [values_of(colours) for colours in maps[:count]]


def values_of(colours):
    """Where on the scale from -1 to 1 each colour of `seismic` stands."""
    scale = colormaps["seismic"](np.linspace(0, 1, 256))[:, :3] * 255
    distance = ((colours[..., None, :] - scale) ** 2).sum(axis=-1)
    return distance.argmin(axis=-1) / 127.5 - 1


def test_scores(explanation):
    assert explanation.logits[0] == pytest.approx(SCORES, abs=0.1)
    assert np.abs(explanation.residual).max() < 1e-5


def test_two_sigma_map(explanation, data):
    figure = np.asarray(Image.open(data("article/retina-big-scores-2std.png")).convert("L"))
    inside = Image.fromarray(figure[84:753, 34:703])  # the axes without their frame
    published = np.asarray(inside.resize((640, 640), Image.Resampling.BOX)) < 140
    ours = explanation.two_sigma()[4, 0]
    assert correlation(blurred(ours), blurred(published)) >= 0.85
    assert abs(correlation(blurred(ours[:, ::-1]), blurred(published))) < 0.2


def published(data, layer, kind):
    figure = panels(data(f"article/{layer}{'k' if kind == 'constant' else ''}.png"))
    assert len(figure) == 5
    return figure


def alike(maps, figure):
    """The correlation of each class's map with the article's; two of five are nearly white."""
    found = []
    for k in (0, 1, 4):
        size = figure[k].shape[::-1]
        ours = np.asarray(Image.fromarray(maps[k].astype(np.float32)).resize(size))
        found.append(correlation(ours, figure[k]))
    return min(found)


@pytest.mark.parametrize("layer", ["rf253", "rf125", "rf61"])
@pytest.mark.parametrize("kind", ["score", "constant"])
def test_layers_look_alike(explanation, data, layer, kind):
    held = explanation.layers[f"/{layer}/Relu_output_0"]
    maps = held.to_input(held.score_map if kind == "score" else held.constant_map)[:, 0]
    assert alike(maps, published(data, layer, kind)) >= 0.85


@pytest.mark.parametrize("kind", ["score", "constant"])
def test_layer_15_looks_alike_at_the_articles_centres(explanation, data, kind):
    # The article puts the 4x4 units at 79.5 + 160 i instead of where they look, 127.5 + 128 i.
    held = explanation.layers["/rf637/Relu_output_0"]
    units = held.score_map if kind == "score" else held.constant_map
    field = (Axis(637, 160, 79.5),) * 2
    maps = to_input(units, field, (640, 640))[:, 0]
    assert alike(maps, published(data, "rf637", kind)) >= 0.85
