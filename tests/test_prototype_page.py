"""Class prototypes of real networks: the ten digits of the page, and a hummingbird."""

import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox
from tests.conftest import CHECKOUT


@pytest.fixture(scope="module")
def page(data):
    """The network, mean images and the 8 of the page, as the example reads them."""
    own = runpy.run_path(str(CHECKOUT / "examples" / "06_class_prototypes.py"), run_name="example")
    weights_file = data("mnist/linear_784_512_100_10.pkl")
    images, labels = own["digits"](data("mnist/t10k-images-idx3-ubyte.gz").parent)
    eight = np.asarray(Image.open(data("mnist/digit_8.png")), np.float32)[None, None] / 255
    return SimpleNamespace(
        model=ox.load(own["network"](own["weights"](weights_file))),
        means=np.stack([images[labels == digit].mean(axis=0) for digit in range(10)]),
        images=images,
        labels=labels,
        eight=eight,
    )


def test_the_pages_ten_digits(page):
    p = ox.prototype(page.model, "all", mean=page.means, steps=10_000, threads=1)
    assert p.loss[0] > 2
    assert p.loss[-1] <= 2e-4
    assert p.logits.argmax(axis=1).tolist() == [*range(10)]
    assert p.probabilities[range(10), range(10)].min() > 0.999
    # Ten digits: each is nearer to the mean image of its class than to any other's.
    apart = np.linalg.norm((p.images[:, None] - page.means[None]).reshape(10, 10, -1), axis=2)
    assert apart.argmin(axis=1).tolist() == [*range(10)]


def test_an_eight_becomes_a_three_and_a_one(page):
    seen = ox.explain(page.model, page.eight, "gradient")
    assert seen.target.tolist() == [8]
    p = ox.prototype(page.model, [3, 1], page.eight, steps=300, threads=1)
    assert p.logits.argmax(axis=1).tolist() == [3, 1]
    assert np.array_equal(p.start[0], p.start[1])


def test_the_pages_accuracy(page):
    """The weights were read right, without torch: 92.4 % of the test images, as in torch."""
    scores = ox.explain(page.model, page.images, "gradient", target=0, threads=1).logits
    assert (scores.argmax(1) == page.labels).mean() == pytest.approx(0.9243, abs=2e-4)


def test_a_hummingbird_is_painted(data):
    """Sixty steps from grey: the model is sure of it, and sees its texture all over."""
    model = ox.load(data("squeezenet_imagenet_fp16.onnx"))
    p = ox.prototype(
        model,
        94,
        "grey",
        objective="logit",
        steps=60,
        rate=0.02,
        tv=300.0,
        jitter=8,
        blur=0.6,
        bounds=(0, 1),
        preprocess={"scale": 255, "channels": "bgr"},
    )
    assert p.images.shape == (1, 3, 224, 224)
    assert p.images.max() > 150
    assert p.images.min() >= 0
    assert p.probabilities[0, 94] > 0.99
    assert p.losses["score"][-1] < -100
    picture = p.canvas.pictures(p.canvas.read(p.images))[0]
    assert picture.shape == (224, 224, 3)
    assert picture[..., 2].mean() == pytest.approx(p.images[0, 0].mean(), abs=1)  # blue comes first
