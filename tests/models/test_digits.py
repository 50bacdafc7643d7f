"""The digit networks: what they reach on the held-out digits, and that they can be explained."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import onnxexplain as ox
from models.digits import data

MODELS = Path(__file__).parents[2] / "models"

STATED = {"digits_cnn": 591, "digits_mlp": 572, "digits_relu": 579}


@pytest.fixture(scope="module")
def held_out():
    with np.load(MODELS / "digits.npz") as held:
        return data.Digits(held["images"], held["labels"].astype(np.int64))


def test_held_out(held_out):
    assert held_out.images.shape == (600, 8, 8)
    assert held_out.images.max() == data.LEVELS
    assert np.bincount(held_out.labels).min() > 40


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_file_holds_what_the_split_gives(held_out):
    taught, fresh = data.split()
    assert np.array_equal(fresh.images, held_out.images)
    assert np.array_equal(fresh.labels, held_out.labels)
    with np.load(MODELS / "digits.npz") as held:
        assert np.array_equal(data.means(taught), held["means"])
    assert len(taught.labels) + len(fresh.labels) == 1797


@pytest.mark.parametrize("name", STATED)
def test_accuracy_is_what_the_card_says(held_out, name):
    e = ox.explain(MODELS / f"{name}.onnx", data.ready(held_out.images), method="gradient")
    right = int((e.logits.argmax(1) == held_out.labels).sum())
    assert right >= STATED[name] - 1  # one may lie within rounding


@pytest.mark.parametrize("name", STATED)
def test_score_is_shared_out(held_out, name):
    model = ox.load(MODELS / f"{name}.onnx")
    e = ox.explain(model, data.ready(held_out.images[:20]), method="score-propagation")
    assert np.abs(e.residual).max() < 1e-5
    assert model.labels == [str(digit) for digit in range(10)]


def test_lines_alone_have_one_gradient(held_out):
    """Without activations the network is one linear map."""
    x = data.ready(held_out.images[:2])
    e = ox.explain(MODELS / "digits_mlp.onnx", x, method="gradient", target=3)
    first, second = e.attributions["input"]
    assert np.allclose(first, second, atol=1e-6)
    assert np.abs(first).max() > 0.01


def test_means_are_their_own_digits():
    with np.load(MODELS / "digits.npz") as held:
        means = held["means"]
    e = ox.explain(MODELS / "digits_cnn.onnx", means, method="gradient")
    assert np.array_equal(e.logits.argmax(1), np.arange(10))
