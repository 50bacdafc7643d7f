"""The pictures of several shapes, the network that names them, and where it looks."""

from pathlib import Path

import numpy as np
import pytest

import onnxexplain as ox
from models.shapes.picture import KINDS, MOST, SIZE, batch, picture

MODELS = Path(__file__).parents[2] / "models"
FRESH = 3_000_000


def test_same_seed_same_picture():
    first, again, other = picture(5), picture(5), picture(6)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", range(20))
def test_masks_and_boxes(seed):
    drawn = picture(seed)
    assert drawn.image.shape == (SIZE, SIZE, 3)
    assert drawn.image.dtype == np.uint8
    assert len(drawn.shapes) <= MOST
    whole = np.zeros((SIZE, SIZE), int)
    for shape in drawn.shapes:
        x0, y0, x1, y1 = shape.box
        rows, columns = np.nonzero(shape.mask)
        assert (rows.min(), rows.max() + 1) == (y0, y1)
        assert (columns.min(), columns.max() + 1) == (x0, x1)
        assert drawn.labels[KINDS.index(shape.kind)] == 1
        whole += shape.mask
        inside = drawn.image[shape.mask].astype(float)
        apart = np.abs(inside - np.median(inside, 0))
        assert np.median(apart) < 10  # of one colour, but for the noise and the rim
    assert whole.max(initial=0) <= 1
    for kind, label in zip(KINDS, drawn.labels, strict=True):
        assert drawn.mask(kind).any() == bool(label)


def test_every_kind_about_as_often():
    often = np.mean([picture(seed).labels for seed in range(300)], 0)
    assert often.min() > 0.3
    assert often.max() < 0.6


# ----- The shipped network -----


@pytest.fixture(scope="module")
def model():
    return ox.load(MODELS / "shapes.onnx")


def test_names_fresh_pictures(model):
    x, labels = batch(picture(FRESH + i) for i in range(200))
    e = ox.explain(model, x, method="cam", target=0)
    assert model.labels == list(KINDS)
    assert e.output == "/kinds/Gemm_output_0"  # the sigmoid is stepped over
    given, true = e.logits > 0, labels > 0
    both, either = (given & true).sum(0), given.sum(0) + true.sum(0)
    assert (2 * both / either).min() >= 0.95


def test_score_is_shared_out(model):
    x, _ = batch(picture(FRESH + i) for i in range(4))
    e = ox.explain(model, x, method="score-propagation", targets="all")
    assert np.abs(e.residual).max() < 1e-5


def test_each_kind_is_found_where_it_is(model):
    """The maximum of a kind's CAM lies on a shape of that kind, or within a position of it."""
    pictures = [picture(FRESH + i) for i in range(60)]
    x, labels = batch(pictures)
    heat = ox.explain(model, x, method="cam", targets="all").heatmap()
    hits = []
    for i, drawn in enumerate(pictures):
        for k in np.flatnonzero(labels[i]):
            row, column = np.unravel_index(heat[k, i].argmax(), (SIZE, SIZE))
            window = np.s_[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5]
            near = drawn.mask(KINDS[k])[window]
            hits.append(near.any())
    assert np.mean(hits) >= 0.95
