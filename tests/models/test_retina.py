"""The synthetic retinas, and the network that was trained on them."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxexplain as ox

MODELS = Path(__file__).parents[2] / "models"
MEAN = np.array([0.382, 0.265, 0.189], np.float32)
STD = np.array([0.290, 0.210, 0.170], np.float32)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("scipy") is None, reason="the painter of retinas needs SciPy"
)


@pytest.fixture(scope="module")
def retina():
    """The painter, whose modules lie beside each other outside the package."""
    folder = str(MODELS / "dr")
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        from retina import retina as paint

        yield paint
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
                del sys.modules[name]


def test_same_seed_same_eye(retina):
    first, again, other = retina(5, 3, 128), retina(5, 3, 128), retina(6, 3, 128)
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(first.masks[kind], again.masks[kind]) for kind in first.masks)
    assert not np.array_equal(first.image, other.image)


def test_healthy_eye_has_no_lesions(retina):
    assert not any(mask.any() for mask in retina(5, 0, 128).masks.values())


@pytest.mark.parametrize("grade", range(1, 5))
def test_ill_eye_has_lesions(retina, grade):
    shown = {kind for kind, mask in retina(5, grade, 256).masks.items() if mask.any()}
    growing = {"neovessels", "laser_scars", "preretinal_haemorrhage"}
    assert "microaneurysms" in shown
    assert bool(shown & growing) == (grade == 4)
    assert ("haemorrhages" in shown) == (grade > 1)


def test_another_grade_changes_the_lesions_alone(retina):
    """The lesions are all that differs, but for the blur and the noise about them."""
    ill, healthy = retina(9, 4, 256), retina(9, 0, 256)
    lesions = np.any(list(ill.masks.values()), 0)
    apart = np.abs(ill.image.astype(int) - healthy.image).max(-1)
    assert apart[lesions].mean() > 5 * apart[~lesions].mean()


@pytest.mark.parametrize("size", [64, 200])
def test_size(retina, size):
    eye = retina(1, 2, size)
    assert eye.image.shape == (size, size, 3)
    assert eye.image.dtype == np.uint8
    assert all(mask.shape == (size, size) for mask in eye.masks.values())


def test_grade_beyond_the_scale(retina):
    with pytest.raises(ValueError, match="the scale runs"):
        retina(1, 5)


# ----- The shipped network -----


@pytest.fixture(scope="module")
def model():
    return ox.load(MODELS / "dr640.onnx")


def test_metadata(model):
    assert model.labels is not None
    assert len(model.labels) == 5
    assert model.preprocess is not None
    assert model.preprocess["size"] == [640, 640]
    assert model.preprocess["mode"] == "fundus"
    assert np.allclose(model.preprocess["mean"], MEAN)
    held = {p.key: p.value for p in model.proto.metadata_props}
    assert "not a medical device" in held["onnxexplain.note"].lower()
    json.loads(held["onnxexplain.preprocess"])


def test_grades_fresh_retinas(retina, model):
    """Of retinas it never saw, no more than one is a grade off."""
    explainer = ox.Explainer(model, "gradient", threads=1)
    off = 0
    for grade in range(5):
        eye = retina(3_000_000 + grade, grade)
        x = ((eye.image / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)[None]
        off += abs(int(explainer(x).logits.argmax()) - grade)
    assert off <= 1
