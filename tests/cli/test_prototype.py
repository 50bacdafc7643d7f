"""``prototype``: what it writes, what it takes, and how it refuses."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.builders import net, weights

FILES = {f"prototype{end}" for end in (".png", ".loss.png", ".gif", ".json", ".npz")}


def paint(call, *arguments):
    return call("prototype", "model.onnx", "--steps", "5", "-o", "out", *arguments)


def test_it_writes_pictures_a_record_and_every_array(call, here):
    told = paint(call, "-t", "all", "--tv", "0.1", "--seed", "3")
    assert told.code == 0, told.err
    assert told.err == ""
    assert told.out.startswith("prototype: ")
    assert {p.name for p in (here / "out").iterdir()} == FILES
    record = json.loads((here / "out/prototype.json").read_text())
    wanted = """format model model_sha256 versions method options target label output logits
        probability loss preprocess seconds given""".split()
    assert set(wanted) <= set(record)
    assert record["method"] == "class-prototype"
    assert record["label"] == ["cat", "dog", "<b>bird</b>"]
    assert record["options"]["seed"] == 3
    with np.load(here / "out/prototype.npz", allow_pickle=False) as arrays:
        assert arrays["images"].shape == arrays["start"].shape == (3, 3, 24, 24)
        assert arrays["loss"].shape == arrays["loss/tv"].shape == (6,)
        assert arrays["loss"][-1] == pytest.approx(record["loss"]["last"])


def test_it_answers_machines_and_is_quiet(call, here):
    told = paint(call, "-t", "dog", "--json")
    assert told.json["target"] == [1]
    assert told.json["label"] == ["dog"]
    assert {(here / f).name for f in told.json["files"]} == FILES
    told = paint(call, "-t", "1", "-t", "cat", "--quiet", "--frames", "0")
    assert (told.code, told.out, told.err) == (0, "", "")


def test_it_starts_from_a_photograph_and_stays_near_another(call, here):
    told = paint(call, "-t", "0", "-t", "2", "--start", "photo.png", "--mean-image", "photo.png")
    assert told.code == 0, told.err
    with np.load(here / "out/prototype.npz") as arrays:
        assert np.array_equal(arrays["start"], arrays["mean"])
        assert arrays["start"].shape == (2, 3, 24, 24)
        assert 0.5 < arrays["start"].max() <= 1
    record = json.loads((here / "out/prototype.json").read_text())
    assert record["given"] == {"start": "photo.png", "mean_image": "photo.png"}


def test_preprocessing_is_asked_for_as_for_photographs(call, here):
    flags = ("--scale", "255", "--channels", "bgr", "--bounds", "0,1", "--start", "photo.png")
    assert paint(call, "-t", "1", *flags).code == 0
    with np.load(here / "out/prototype.npz") as arrays:
        assert 128 < arrays["images"].max() <= 255.001
    record = json.loads((here / "out/prototype.json").read_text())
    assert record["preprocess"]["channels"] == "bgr"
    assert record["preprocess"]["size"] == [24, 24]
    assert paint(call, "-t", "1", "--preprocess", "imagenet", "--start", "photo.png").code == 0
    with np.load(here / "out/prototype.npz") as arrays:
        assert arrays["start"].min() < -0.5  # normalised
        assert arrays["start"].shape == (1, 3, 24, 24)  # the model's own size, not the preset's


def test_a_digit_for_a_model_of_rows(call, here):
    """A grey picture goes into a model that takes its pixels as one row."""
    proto = net("(float[N,64] x) => (float[N,4] y) { y = MatMul(x, w) }", **weights(2, w=(64, 4)))
    onnx.save(proto, here / "model.onnx")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(here / "digit.png")
    means = np.random.default_rng(0).uniform(size=(4, 1, 8, 8)).astype(np.float32)
    np.savez(here / "means.npz", images=means * 0, means=means)
    told = paint(call, "-t", "2", "-t", "0", "--start", "digit.png", "--mean-image", "means.npz")
    assert told.code == 0, told.err
    with np.load(here / "out/prototype.npz") as arrays:
        assert np.allclose(arrays["start"][1] * 255, np.arange(64) * 4)
        assert np.array_equal(arrays["mean"], means[[2, 0]].reshape(2, 64))


def test_nothing_that_was_read_is_written_over(call, here):
    (here / "out").mkdir()
    (here / "photo.png").rename(here / "out/prototype.png")
    before = (here / "out/prototype.png").read_bytes()
    told = paint(call, "-t", "1", "--start", "out/prototype.png")
    assert told.code == 0, told.err
    assert (here / "out/prototype.png").read_bytes() == before
    assert (here / "out/prototype-2.png").is_file()


@pytest.mark.parametrize(
    ("code", "words", "arguments"),
    [
        (2, "Missing option", ()),
        (2, "target 3 is out of range", ("-t", "3")),
        (2, "no label `cow`", ("-t", "cow")),
        (2, "leave the other targets out", ("-t", "all", "-t", "1")),
        (2, "steps is -1", ("-t", "1", "--steps", "-1")),
        (2, "--bounds 1", ("-t", "1", "--bounds", "1")),
        (2, "bounds is (1.0, 0.0)", ("-t", "1", "--bounds", "1,0")),
        (2, "no such file", ("-t", "1", "--start", "nothing.png")),
        (2, "no such file", ("-t", "1", "--mean-image", "nothing.npy")),
        (2, "no mean image", ("-t", "1", "--start", "mean")),
        (2, "no colour map", ("-t", "1", "--cmap", "jett")),
        (2, "no preprocessing `imagnet`", ("-t", "1", "--preprocess", "imagnet")),
        (1, "has shape", ("-t", "1", "--start", "wrong.npy")),
        (1, "NaN", ("-t", "1", "--start", "nan.npy")),
        (1, "not an image", ("-t", "1", "--start", "model.onnx")),
        (1, "not an ONNX model", ("-t", "1", "--labels", "labels.txt", "bad.onnx")),
    ],
)
def test_it_refuses_in_one_line(call, here, code, words, arguments):
    np.save(here / "wrong.npy", np.ones((2, 3, 5, 5), np.float32))
    np.save(here / "nan.npy", np.full((1, 3, 24, 24), np.nan, np.float32))
    (here / "labels.txt").write_text("a\nb\nc\n")
    (here / "bad.onnx").write_text("no model")
    model = [] if "bad.onnx" in arguments else ["model.onnx"]
    told = call("prototype", *model, "-o", "out", *arguments)
    assert (told.code, told.out) == (code, ""), told.err
    assert words in told.err
    assert told.err.count("\n") == 1
    assert not list((here / "out").glob("prototype*"))
