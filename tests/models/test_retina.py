"""The synthetic retinas, and the network that was trained on them."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import onnxexplain as ox
from models.dr.anatomy import Eye, Vessel, grow, paint
from models.dr.canvas import Canvas
from models.dr.dataset import LONE, eye
from models.dr.lesions import DECIDING, Patient, beading
from models.dr.retina import retina

MODELS = Path(__file__).parents[2] / "models"
MEAN = np.array([0.382, 0.265, 0.189], np.float32)
STD = np.array([0.290, 0.210, 0.170], np.float32)


def test_same_seed_same_eye():
    first, again, other = retina(5, 3, 128), retina(5, 3, 128), retina(6, 3, 128)
    assert np.array_equal(first.image, again.image)
    assert all(np.array_equal(first.masks[kind], again.masks[kind]) for kind in first.masks)
    assert not np.array_equal(first.image, other.image)


def test_healthy_eye_has_no_lesions():
    assert not any(mask.any() for mask in retina(5, 0, 128).masks.values())


@pytest.mark.parametrize("grade", range(1, 5))
def test_ill_eye_has_lesions(grade):
    shown = {kind for kind, mask in retina(5, grade, 256).masks.items() if mask.any()}
    growing = {"neovessels", "laser_scars", "preretinal_haemorrhage"}
    assert "microaneurysms" in shown
    assert bool(shown & growing) == (grade == 4)
    assert ("haemorrhages" in shown) == (grade > 1)


def test_another_grade_changes_the_lesions_alone():
    """The lesions are all that differs, but for the blur and the noise about them."""
    ill, healthy = retina(9, 4, 256), retina(9, 0, 256)
    lesions = np.any(list(ill.masks.values()), 0)
    apart = np.abs(ill.image.astype(int) - healthy.image).max(-1)
    assert apart[lesions].mean() > 5 * apart[~lesions].mean()


@pytest.mark.parametrize("size", [64, 200])
def test_size(size):
    eye = retina(1, 2, size)
    assert eye.image.shape == (size, size, 3)
    assert eye.image.dtype == np.uint8
    assert all(mask.shape == (size, size) for mask in eye.masks.values())


def test_grade_beyond_the_scale():
    with pytest.raises(ValueError, match="the scale runs"):
        retina(1, 5)


@pytest.mark.parametrize("seed", range(4))
def test_vessels_end_in_capillaries(seed):
    """Along a vessel is blood, and at an end in view none: a stump is as dark as a lesion."""
    eye, canvas = grow(np.random.default_rng(seed)), Canvas(640)
    alone = ending(eye)
    paint(canvas, eye, np.random.default_rng(0))
    ends = np.array([v.points[-1] for v in alone])
    assert len(alone) > 5
    middles = np.array([v.points[len(v.points) // 2] for v in alone])
    assert blood(canvas, ends).max() < 0.1
    assert np.median(blood(canvas, middles)) > 0.1


@pytest.mark.parametrize("seed", range(6))
def test_beads_end_before_their_vein_thins(seed):
    """Every large vein that is whole there has some, and none lie where one ends in view."""
    eye = grow(np.random.default_rng(seed))
    patient = Patient(Canvas(320), eye, np.random.default_rng(seed))
    beading(patient, 99)
    mask, pixel = patient.masks["venous_beading"], patient.canvas.pixel
    ends = np.array([v.points[-1] for v in ending(eye) if v.vein])
    columns, rows = ((ends + 1) / pixel).astype(int).T
    assert mask.any()
    assert not mask[rows, columns].any()


def blood(canvas: Canvas, points: np.ndarray) -> np.ndarray:
    """Tell how much blood a canvas shows at points [n, 2]."""
    columns, rows = ((points + 1) / canvas.pixel).astype(int).T
    return canvas.layers["blood"][rows, columns]


def ending(eye: Eye) -> list[Vessel]:
    """Return the vessels that end in view with no other one beside their end."""
    return [v for v in eye.vessels if np.hypot(*v.points[-1]) < 0.95 and not beside(eye, v)]


def beside(eye: Eye, vessel: Vessel) -> bool:
    """Tell whether another vessel runs by the end of this one."""
    others = np.concatenate([v.points for v in eye.vessels if v is not vessel])
    return bool(np.hypot(*(others - vessel.points[-1]).T).min() < 0.05)


# ----- Lone eyes: one kind decides -----

SOLE = [
    (2, "haemorrhages"),
    (2, "exudates"),
    (2, "cotton_wool"),
    (3, "haemorrhages"),
    (3, "venous_beading"),
    (4, "neovessels"),
    (4, "laser_scars"),
    (4, "preretinal_haemorrhage"),
]


@pytest.mark.parametrize(("grade", "kind"), SOLE)
def test_a_sole_sign_decides(grade, kind):
    """Of all kinds that could make the grade or a higher one, it shows the one."""
    decisive = {sign for g in range(grade, 5) for sign in DECIDING[g]}
    for seed in range(6):
        eye = retina(seed, grade, 200, sole=kind)
        shown = {name for name, mask in eye.masks.items() if mask.any()}
        assert kind in shown
        assert shown & decisive <= {kind, "haemorrhages"}  # few of those make grade 2 alone
        assert "haemorrhages" not in shown or grade > 2 or kind == "haemorrhages"
        assert np.array_equal(eye.deciding, eye.masks[kind])


@pytest.mark.parametrize(("grade", "kind"), SOLE)
def test_painted_out(grade, kind):
    """Without a kind all else is as it was, and its mask tells where it would be."""
    eye = retina(3, grade, 200, sole=kind)
    without = retina(3, grade, 200, sole=kind, without=kind)
    assert all(np.array_equal(eye.masks[name], without.masks[name]) for name in eye.masks)
    apart = np.abs(eye.image.astype(int) - without.image).max(-1)
    mask = eye.masks[kind]
    assert apart[mask].mean() > 3
    # What covers less than half of a pixel, as new vessels do at this size, is not in the mask.
    assert apart[~ndimage.binary_dilation(mask, iterations=12)].max() <= 4


@pytest.mark.parametrize("sign", ["drusen", "reflexes"])
def test_harmless_brightness(sign):
    """Something is to be seen, and nothing is marked."""
    plain, bright = retina(4, 0, 200), retina(4, 0, 200, sole=sign)
    assert np.abs(plain.image.astype(int) - bright.image).max() > 10
    assert not any(mask.any() for mask in bright.masks.values())


@pytest.mark.parametrize(
    ("grade", "asked"),
    [(1, {"sole": "exudates"}), (3, {"sole": "drusen"}), (2, {"without": "dust"})],
)
def test_signs_that_cannot_be(grade, asked):
    with pytest.raises(ValueError, match=r"can$|no kind"):
        retina(1, grade, 64, **asked)


def test_the_seed_tells_the_recipe():
    """Usual eyes and lone ones take turns of half a million seeds; every sign has its turn."""
    assert all(eye(seed, 64).sole is None for seed in (0, 9, 2 * LONE + 4))
    signs = [(eye(seed, 64).grade, eye(seed, 64).sole) for seed in range(LONE, LONE + 30)]
    assert set(SOLE) <= set(signs)
    assert {(0, "drusen"), (0, "reflexes"), (1, "microaneurysms")} <= set(signs)


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


def test_grades_fresh_retinas(model):
    """Of retinas it never saw, no more than one is a grade off."""
    explainer = ox.Explainer(model, "gradient", threads=1)
    off = 0
    for grade in range(5):
        eye = retina(3_000_000 + grade, grade)
        x = ((eye.image / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)[None]
        off += abs(int(explainer(x).logits.argmax()) - grade)
    assert off <= 1
