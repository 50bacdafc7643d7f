"""Boxes: what reaches a part of the map's maximum and hangs together."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import onnxexplain as ox
from onnxexplain.boxes import around, components
from tests.builders import net, weights
from tests.pictures import LABELS, classifier
from tests.test_real_models import PHOTOGRAPHS, photograph

KEYS = {"class", "label", "probability", "x0", "y0", "x1", "y1", "peak"}


def flooded(mask):
    """The connected parts of a binary image, one flooded after the other."""
    found = np.full(mask.shape, -1)
    for number, start in enumerate(np.ndindex(mask.shape)):
        if not mask[start] or found[start] >= 0:
            continue
        found[start], waiting = number, deque([start])
        while waiting:
            y, x = waiting.popleft()
            for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                inside = 0 <= place[0] < mask.shape[0] and 0 <= place[1] < mask.shape[1]
                if inside and mask[place] and found[place] < 0:
                    found[place] = number
                    waiting.append(place)
    return found


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_parts_are_those_of_a_flood(mask):
    np.testing.assert_array_equal(components(mask)[mask], flooded(mask)[mask])


def test_a_spiral_is_one_part():
    mask = np.zeros((41, 41), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    assert len(np.unique(components(mask)[mask])) == 1
    mask[21] = False
    assert len(np.unique(components(mask)[mask])) == 2


@given(
    arrays(np.float32, (9, 7), elements=st.floats(-1, 1, width=32)), st.sampled_from([0.2, 0.5, 1])
)
def test_every_pixel_above_lies_in_one_tight_box(values, threshold):
    found = list(around(values, threshold))
    top = values.max()
    above = values / top >= threshold if top > 0 else np.zeros(values.shape, bool)
    assert sum(area for _, _, area in found) == above.sum()
    parts = components(above)
    for (x0, y0, x1, y1), peak, area in found:
        inside = np.zeros_like(above)
        inside[y0:y1, x0:x1] = above[y0:y1, x0:x1]
        numbers, counts = np.unique(parts[inside], return_counts=True)
        own = next(n for n, c in zip(numbers, counts, strict=True) if c == area)
        rows, columns = np.nonzero(inside & (parts == own))
        assert (columns.min(), rows.min()) == (x0, y0)
        assert (columns.max() + 1, rows.max() + 1) == (x1, y1)
        assert threshold - 1e-6 <= peak <= 1
    peaks = [peak for _, peak, _ in found]
    assert peaks == sorted(peaks, reverse=True)
    assert not found or peaks[0] == 1


def test_the_threshold_counts_and_corners_do_not_touch():
    values = np.zeros((6, 8), np.float32)
    values[1:3, 1:4] = 4
    values[3, 4] = 2  # touches the first by a corner
    values[5, 7] = 1.9
    assert list(around(values, 0.5)) == [((1, 1, 4, 3), 1.0, 6), ((4, 3, 5, 4), 0.5, 1)]
    assert len(list(around(values, 0.4))) == 3
    assert list(around(np.zeros((3, 3), np.float32), 0)) == []
    assert list(around(-values, 0.5)) == []


# ----- Of an explanation -----


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 24, 24)).astype(np.float32)


@pytest.mark.parametrize("method", ["grad-cam", "crm", "score-propagation", "gradient"])
def test_boxes_of_any_map(x, method):
    e = ox.explain(classifier(labels=LABELS), x[:1], method, target=1)
    boxes = e.boxes(0.5)
    assert boxes
    heat = e.heatmap()[0]
    for box in boxes:
        assert set(box) >= KEYS
        assert (box["sample"], box["class"], box["label"]) == (0, 1, "dog")
        inside = heat[box["y0"] : box["y1"], box["x0"] : box["x1"]]
        assert inside.max() >= 0.5 * heat.max()
        assert box["probability"] == pytest.approx(e.probabilities[0, 1])
    assert boxes[0]["peak"] == 1
    y, x_ = np.unravel_index(heat.argmax(), heat.shape)
    assert boxes[0]["x0"] <= x_ < boxes[0]["x1"]
    assert boxes[0]["y0"] <= y < boxes[0]["y1"]


def test_samples_and_targets_follow_one_another(x):
    e = ox.explain(classifier(), x, "grad-cam", targets=[2, 0], relu=False)
    order = [(box["sample"], box["class"]) for box in e.boxes(0.3)]
    assert list(dict.fromkeys(order)) == [(0, 2), (0, 0), (1, 2), (1, 0)]
    one = ox.explain(classifier(), x[1:], "grad-cam", target=0, relu=False).boxes(0.3)
    places = [[b[k] for k in ("x0", "y0", "x1", "y1")] for b in e.boxes(0.3)][-len(one) :]
    assert places == [[b[k] for k in ("x0", "y0", "x1", "y1")] for b in one]


def test_small_boxes_are_left_out(x):
    e = ox.explain(classifier(), x, "gradient", target=0)
    every = e.boxes(0.3)
    large = e.boxes(0.3, min_size=3)
    assert 0 < len(large) < len(every)
    assert large == [b for b in every if min(b["x1"] - b["x0"], b["y1"] - b["y0"]) >= 3]


def test_a_combination_has_no_class(x):
    e = ox.explain(classifier(labels=LABELS), x[:1], "gradient", target="sum")
    assert {(b["class"], b["label"], b["probability"]) for b in e.boxes(0.5)} == {(None,) * 3}


def test_all_classes_together_have_no_name(x):
    e = ox.explain(classifier(labels=LABELS), x[:1], "crm", targets="all", combined=True)
    boxes = e.boxes(0.5)
    assert {(b["class"], b["label"], b["probability"]) for b in boxes} == {(None,) * 3}
    one = ox.explain(classifier(labels=LABELS), x[:1], "crm", target=1, combined=True)
    assert boxes == one.boxes(0.5)


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"threshold": "half"}, {"min_size": -1}])
def test_wrong_options_are_named(x, wrong):
    e = ox.explain(classifier(), x[:1], "grad-cam", target=0)
    with pytest.raises(ox.MethodError, match=next(iter(wrong))):
        e.boxes(**wrong)


def test_a_table_has_no_boxes():
    proto = net(
        "(float[N,5] x) => (float[N,2] y) { y = Gemm(x, w, b) }", **weights(1, w=(5, 2), b=(2,))
    )
    with pytest.raises(ox.MethodError, match="boxes are drawn on maps"):
        ox.explain(proto, np.ones((1, 5), np.float32)).boxes(0.5)


# ----- Probabilities -----

ENDS = {
    "none": ("", lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)),
    "Softmax": ("q = Softmax(y)", lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)),
    "LogSoftmax": ("q = LogSoftmax(y)", lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True)),
    "Sigmoid": ("q = Sigmoid(y)", lambda z: 1 / (1 + np.exp(-z))),
    "carried": ("s = Sigmoid(y)  q = Identity(s)", lambda z: 1 / (1 + np.exp(-z))),
}


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize("end", ENDS)
def test_probabilities_are_those_of_the_files_end(end, stepped, rng):
    nodes, expected = ENDS[end]
    last = "q" if nodes else "y"
    proto = net(
        f"(float[N,5] x) => (float[N,3] {last}) {{ y = Gemm(x, w, b)  {nodes} }}",
        **weights(1, w=(5, 3), b=(3,)),
    )
    x = rng.standard_normal((4, 5)).astype(np.float32)
    scores = ox.explain(proto, x, "gradient", output="y", target=0).logits
    e = ox.explain(proto, x, "gradient", output=None if stepped else last, target=0)
    np.testing.assert_allclose(e.probabilities, expected(scores.astype(np.float64)), rtol=1e-5)


def test_one_score_is_a_sigmoids_and_positions_are_averaged(rng):
    one = net("(float[N,5] x) => (float[N,1] y) { y = Gemm(x, w) }", **weights(1, w=(5, 1)))
    x = rng.standard_normal((4, 5)).astype(np.float32)
    e = ox.explain(one, x, "gradient", target=0)
    np.testing.assert_allclose(e.probabilities, 1 / (1 + np.exp(-e.logits)), rtol=1e-5)
    dense = net(
        "(float[N,3,4,4] x) => (float[N,2,4,4] y) { y = Conv(x, w) }", w=np.ones((2, 3, 1, 1))
    )
    e = ox.explain(
        dense, rng.standard_normal((1, 3, 4, 4)).astype(np.float32), "gradient", target=0
    )
    np.testing.assert_allclose(e.probabilities, [[0.5, 0.5]])


# ----- On photographs -----

# Left, top, right, bottom in 224 x 224, read off the photographs: the animal, and its head.
ANIMALS = {
    "kitten.jpg": ((35, 5, 190, 215), (38, 8, 150, 130)),
    "hummingbird.jpg": ((10, 8, 190, 224), (10, 8, 145, 110)),
    "golden_retriever.jpg": ((38, 25, 152, 205), (38, 25, 125, 105)),
}


@pytest.mark.parametrize("method", ["crm", "grad-cam"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_strongest_box_is_around_the_animal(data, name, method):
    e = ox.explain(data("squeezenet_imagenet_fp16.onnx"), photograph(data(name)), method)
    box = e.boxes(0.4, min_size=25)[0]
    assert box["class"] == PHOTOGRAPHS[name]
    assert box["probability"] == pytest.approx(e.probabilities[0].max())
    (left, top, right, bottom), head = ANIMALS[name]
    across = min(right, box["x1"]) - max(left, box["x0"])
    down = min(bottom, box["y1"]) - max(top, box["y0"])
    area = (box["x1"] - box["x0"]) * (box["y1"] - box["y0"])
    assert max(across, 0) * max(down, 0) / area > 0.9
    assert area < 224 * 224 / 3
    y, x_ = np.unravel_index(e.heatmap()[0].argmax(), (224, 224))
    assert head[0] <= x_ < head[2]
    assert head[1] <= y < head[3]
