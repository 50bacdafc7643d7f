"""``explain``: boxes, ensembles, all layers, and what is for and against."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.pictures import LABELS, classifier


@pytest.fixture
def other(here):
    """A second model, whose labels are those of the first."""
    proto = classifier(labels=LABELS)
    held = next(t for t in proto.graph.initializer if t.name == "v")
    turned = onnx.numpy_helper.to_array(held)[::-1].copy()
    held.CopyFrom(onnx.numpy_helper.from_array(turned, "v"))
    onnx.save(proto, here / "other.onnx")
    return here / "other.onnx"


def test_boxes_are_drawn_and_kept(call, here):
    flags = ("-m", "grad-cam", "-t", "0", "-t", "1", "-o", "o")
    assert call("explain", "model.onnx", "photo.png", *flags).code == 0
    with Image.open(here / "o/photo.png") as picture:
        width = picture.width
    told = call("explain", "model.onnx", "photo.png", *flags, "--boxes", "0.4", "--min-box", "2")
    assert told.code == 0, told.err
    with Image.open(here / "o/photo.png") as picture:
        assert picture.width > width
    boxes = json.loads((here / "o/photo.json").read_text())["boxes"]
    assert {box["label"] for box in boxes} == {"cat", "dog"}
    for box in boxes:
        assert min(box["x1"] - box["x0"], box["y1"] - box["y0"]) >= 2
        left, top, right, bottom = box["photograph"]  # the middle 40 x 40 of 60 x 40
        assert 10 <= left < right <= 50
        assert 0 <= top < bottom <= 40
        assert 0 < box["probability"] < 1


def test_boxes_of_arrays_have_no_photograph(call, here):
    np.save(here / "noise.npy", np.random.default_rng(0).random((1, 3, 24, 24), np.float32))
    assert call("explain", "model.onnx", "noise.npy", "-m", "crm", "--boxes", "0.5").code == 0
    boxes = json.loads((here / "explanations/noise.json").read_text())["boxes"]
    assert boxes
    assert not any("photograph" in box for box in boxes)


def test_every_layer_is_saved_and_drawn(call, here):
    for method in ("grad-cam", "guided-grad-cam"):
        told = call(
            "explain", "model.onnx", "photo.png", "-m", method, "--layer", "all", "--report"
        )
        assert told.code == 0, told.err
        with np.load(here / "explanations/photo.npz") as arrays:
            assert set(arrays) == {f"attribution/{name}" for name in ("a", "p", "r")}
        assert (here / "explanations/photo.png").stat().st_size > 10_000


def test_an_ensemble_is_averaged(call, here, other):
    flags = ("-m", "grad-cam", "-t", "dog", "--json", "-o")
    told = call("explain", "model.onnx", "photo.png", *flags, "o", "--ensemble", "other.onnx")
    assert told.code == 0, told.err
    alone = [call("explain", m, "photo.png", *flags, "p").json for m in ("model.onnx", other)]
    assert told.json[0]["score"] == pytest.approx([np.mean([a[0]["score"] for a in alone])])
    record = json.loads((here / "o/photo.json").read_text())
    assert [m["model"] for m in record["ensemble"]] == ["model.onnx", "other.onnx"]
    with np.load(here / "o/photo.npz") as arrays:
        assert arrays["attribution/x"].shape == (1, 1, 24, 24)


def test_an_ensemble_has_a_report_and_sums(call, here, other):
    flags = ("--ensemble", "other.onnx", "--report", "-t", "all", "-o", "o")
    told = call("explain", "model.onnx", "photo.png", *flags)
    assert told.code == 0, told.err
    assert "Why this model says" in (here / "o/photo.html").read_text()
    summed = ("-m", "crm", "--combine", "sum", "--combine-threshold", "0.2")
    assert call("explain", "model.onnx", "photo.png", *flags, *summed).code == 0


def test_signs_are_written_when_asked_for(call, here):
    told = call("explain", "model.onnx", "photo.png", "-m", "gradient", "-t", "sum", "--signs")
    assert told.code == 0, told.err
    with Image.open(here / "explanations/photo.signs.png") as picture:
        assert picture.height > picture.width
    assert call("explain", "model.onnx", "photo.png", "-m", "crm", "--signs").code == 2


WRONG = [
    (("--boxes", "1.4"), 2, "--boxes"),
    (("--min-box", "-1"), 2, "--min-box"),
    (("--layer", "all", "-m", "crm"), 2, "one layer at a time"),
    (("--ensemble", "absent.onnx"), 2, "absent.onnx"),
    (("--combine", "sum"), 2, "--ensemble"),
    (("--combine", "median"), 2, "--combine"),
    (("--ensemble", "model.onnx", "--combine-threshold", "0.2"), 2, "--combine sum"),
    (("--ensemble", "model.onnx", "--layer", "all", "-m", "grad-cam"), 2, "--layer all"),
    (("--layer", "all", "-m", "grad-cam", "--boxes", "0.4"), 2, "--boxes or --layer all"),
    (("-m", "cnn-fixations", "--engine", "compiled"), 2, "--engine eager"),
    (("--min-box", "10"), 2, "--boxes"),
]


@pytest.mark.parametrize(("flags", "code", "said"), WRONG)
def test_every_mistake_is_one_line(call, flags, code, said):
    told = call("explain", "model.onnx", "photo.png", *flags)
    assert told.code == code
    assert said in told.err
    assert told.err.count("\n") == 1


def test_the_help_describes_each(call):
    told = call("explain", "--help")
    for flag in ("--boxes", "--min-box", "--signs", "--ensemble", "--combine"):
        assert flag in told.out
    assert "Example" in told.out
