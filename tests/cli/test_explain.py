"""``explain``: what it writes, what it takes, and how it refuses."""

import json
import os
import resource
import signal

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.builders import net, weights
from tests.pictures import photograph


def test_it_writes_a_picture_a_record_and_every_array(call, here):
    told = call("explain", "model.onnx", "photo.png", "-t", "all", "-o", "out", "--layers", "r")
    assert told.code == 0, told.err
    assert {p.name for p in (here / "out").iterdir()} == {
        f"photo.{kind}" for kind in ("png", "json", "npz", "gif")
    }
    record = json.loads((here / "out/photo.json").read_text())
    wanted = """format model_sha256 versions method options target label output score constant
        residual preprocess seconds""".split()
    assert set(wanted) <= set(record)
    assert record["label"] == [["cat"], ["dog"], ["<b>bird</b>"]]
    assert record["preprocess"]["size"] == [24, 24]
    with np.load(here / "out/photo.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"attribution/x", "score/r", "constant/r"}
        assert arrays["attribution/x"].shape == (3, 1, 3, 24, 24)
        shares = arrays["attribution/x"].sum(axis=(1, 2, 3, 4), dtype=np.float64)
    rest = np.ravel(record["score"]) - shares - np.ravel(record["constant"])
    assert np.abs(rest).max() < 1e-5


def test_a_page_is_written_when_asked_for(call, here):
    assert call("explain", "model.onnx", "photo.png", "--report", "-o", "out").code == 0
    assert "Why this model says" in (here / "out/photo.html").read_text()


def test_it_answers_machines(call, here):
    told = call("explain", "model.onnx", "photo.png", "array.npy", "-o", "out", "--json")
    assert [r["input"] for r in told.json] == ["photo.png", "array.npy"]
    assert all((here / f).is_file() for r in told.json for f in r["files"])
    assert told.err == ""


def test_quiet_is_quiet(call):
    told = call("explain", "model.onnx", "photo.png", "-o", "out", "--quiet")
    assert (told.code, told.out, told.err) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "target"),
    [
        ((), None),
        (("-t", "1"), [1]),
        (("-t", "dog"), [1]),
        (("-t", "0", "-t", "dog"), [[0], [1]]),
        (("-t", "sum"), "sum"),
    ],
)
def test_targets_are_numbers_or_labels(call, flags, target):
    told = call("explain", "model.onnx", "photo.png", "-o", "out", "--json", *flags)
    assert told.code == 0, told.err
    if target is not None:
        assert told.json[0]["target"] == target


def test_inputs_of_one_name_do_not_overwrite_each_other(call, here):
    for folder in ("a", "b"):
        (here / folder).mkdir()
        photograph().save(here / folder / "photo.png")
    told = call("explain", "model.onnx", "a/photo.png", "b/photo.png", "-o", "out", "--json")
    files = [f for r in told.json for f in r["files"]]
    assert len(files) == len(set(files)) == 8


def test_no_input_is_written_over(call, here):
    before = (here / "photo.png").read_bytes()
    told = call("explain", "model.onnx", "photo.png", "-o", ".", "--json")
    assert told.code == 0
    assert (here / "photo.png").read_bytes() == before
    assert all("photo-2" in f for f in told.json[0]["files"])


def test_the_true_class_is_shown_and_kept(call, here):
    assert call("explain", "model.onnx", "photo.png", "-o", "o", "--truth", "dog").code == 0
    assert json.loads((here / "o/photo.json").read_text())["truth"] == 1
    assert call("explain", "model.onnx", "photo.png", "--truth", "9").code == 2
    assert call("explain", "model.onnx", "photo.png", "--truth", "fish").code == 2


def test_preprocessing_is_as_asked(call, here):
    (here / "how.json").write_text(json.dumps({"scale": 255, "channels": "bgr"}))
    flags = ("--preprocess", "how.json", "--mean", "1,2,3", "--resize", "--interpolation", "box")
    assert call("explain", "model.onnx", "photo.png", "-o", "o", *flags).code == 0
    done = json.loads((here / "o/photo.json").read_text())["preprocess"]
    assert (done["scale"], done["channels"], done["mean"]) == (255, "bgr", [1, 2, 3])
    assert (done["mode"], done["box"]) == ("resize", [0, 0, 60, 40])


def test_a_photograph_without_a_retina_is_told_of(call, here):
    flags = ("--preprocess", "fundus", "--size", "24x24", "-o", "o")
    Image.new("RGB", (60, 40), (90, 80, 70)).save(here / "plain.png")
    told = call("explain", "model.onnx", "plain.png", *flags)
    assert told.code == 0, told.err
    assert told.err.count("plain.png: no retina's disc found") == 1
    done = json.loads((here / "o/plain.json").read_text())["preprocess"]
    assert (done["disc_found"], done["centre"], done["radius"]) == (False, [30, 20], 20)
    assert call("explain", "model.onnx", "plain.png", *flags, "--quiet").err == ""


def test_options_reach_the_method(call, here):
    flags = ("--prior", "flat", "--receptive-field", "nominal", "--option", "ties=share")
    assert call("explain", "model.onnx", "photo.png", "-o", "o", *flags).code == 0
    assert json.loads((here / "o/photo.json").read_text())["options"] == {
        "prior": "flat",
        "receptive_field": "nominal",
        "ties": "share",
    }


def test_a_cam_lies_over_the_whole_photograph(call, here):
    assert call("explain", "model.onnx", "photo.png", "-m", "grad-cam", "--layer", "a").code == 0
    with np.load(here / "explanations/photo.npz") as arrays:
        assert arrays["attribution/a"].shape == (1, 1, 24, 24)
    assert not (here / "explanations/photo.gif").exists()


def test_several_inputs_of_a_model_come_in_one_file(call, here):
    two = net(
        "(float[N,4] x, float[N,4] z) => (float[N,2] y) { s = Mul(x, z)  y = Gemm(s, w, b) }",
        **weights(1, w=(4, 2), b=(2,)),
    )
    onnx.save(two, here / "two.onnx")
    np.savez(here / "pair.npz", x=np.ones((1, 4), np.float32), z=np.ones((1, 4), np.float32))
    assert call("explain", "two.onnx", "pair.npz", "-o", "o", "--report").code == 0
    assert call("explain", "two.onnx", "photo.png", "-o", "o").code == 1


# ----- Refusals -----

WRONG = [
    (("nomodel.onnx", "photo.png"), 2, "nearest: model.onnx"),
    (("model.onnx", "nophoto.png"), 2, "nearest: photo.png"),
    (("model.onnx", "photo.png", "-m", "grad-cma"), 2, "nearest: grad-cam"),
    (("model.onnx", "photo.png", "-t", "3"), 2, "0 to 2"),
    (("model.onnx", "photo.png", "-t", "dgo"), 2, "nearest: dog"),
    (("model.onnx", "photo.png", "-t", "all", "-t", "1"), 2, "-t all"),
    (("model.onnx", "photo.png", "--layers", "q"), 2, "no tensor `q`"),
    (("model.onnx", "photo.png", "-m", "grad-cam", "--layer", "q"), 2, "no tensor `q`"),
    (("model.onnx", "photo.png", "--layer", "a"), 2, "--layers"),
    (("model.onnx", "photo.png", "--option", "foo=1"), 2, "no option `foo`"),
    (("model.onnx", "photo.png", "--option", "foo"), 2, "NAME=VALUE"),
    (("model.onnx", "photo.png", "--prior", "wide"), 2, "--prior"),
    (("model.onnx", "photo.png", "--cmap", "seismik"), 2, "nearest: seismic"),
    (("model.onnx", "photo.png", "--size", "0"), 2, "--size"),
    (("model.onnx", "photo.png", "--preprocess", "imagnet"), 2, "nearest: imagenet"),
    (("model.onnx", "photo.png", "--foo"), 2, "--foo"),
    (("model.onnx",), 2, "inputs"),
    (("model.onnx", "photo.png", "--size", "30"), 1, "[1, 3, 30, 30]"),
    (("model.onnx", "photo.png", "--std", "0"), 1, "std holds a 0"),
    (("model.onnx", "photo.png", "--labels", "two.txt"), 1, "2 labels do not fit"),
    (("model.onnx", "two.txt"), 1, "not an image"),
    (("two.txt", "photo.png"), 1, "not an ONNX model"),
    (("model.onnx", "nan.npy"), 1, "NaN"),
    (("model.onnx", "small.npy"), 1, "[1, 3, 9, 9]"),
    (("model.onnx", "pickled.npy"), 1, "pickled objects, which are never loaded"),
    (("model.onnx", "junk.npz"), 1, "pickled objects, which are never loaded"),
    (("model.onnx", "cut.npy"), 1, "cut.npy"),
    (("model.onnx", "."), 1, "folder"),
    (("model.onnx", "photo.png", "-o", "two.txt"), 1, "cannot be written"),
    (("model.onnx", "photo.png", "--max-pixels", "100"), 1, "--max-pixels"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG, ids=lambda v: str(v))
def test_what_is_wrong_is_one_clear_line(call, here, arguments, code, said):
    (here / "two.txt").write_text("cat\ndog\n")
    np.save(here / "nan.npy", np.full((1, 3, 24, 24), np.nan, np.float32))
    np.save(here / "small.npy", np.zeros((1, 3, 9, 9), np.float32))
    np.save(here / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (here / "junk.npz").write_text("no archive")
    (here / "cut.npy").write_bytes((here / "array.npy").read_bytes()[:500])
    told = call("explain", *arguments, "--device", "cpu")
    assert told.code == code
    assert said in told.err
    assert told.err.count("\n") == 1
    assert "Traceback" not in told.err
    written = here / "explanations"
    assert not written.exists() or not list(written.iterdir())


def test_one_bad_input_does_not_stop_the_others(call, here):
    (here / "bad.png").write_text("no image")
    told = call("explain", "model.onnx", "bad.png", "photo.png", "-o", "out", "--json")
    assert told.code == 1
    assert told.err.startswith("onnxexplain: bad.png")
    assert [r["input"] for r in told.json] == ["photo.png"]


def test_debug_shows_where_it_happened(call):
    with pytest.raises(ValueError, match="no method"):
        call("explain", "model.onnx", "photo.png", "-m", "nothing", "--debug")


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on file sizes here")
def test_a_full_disk_leaves_what_was_there_before(call, here):
    assert call("explain", "model.onnx", "photo.png", "-o", "out").code == 0
    before = {p.name: p.read_bytes() for p in (here / "out").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        told = call("explain", "model.onnx", "photo.png", "-t", "2", "-o", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert {p.name: p.read_bytes() for p in (here / "out").iterdir()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named(call, here):
    (here / "locked").mkdir(mode=0o500)
    told = call("explain", "model.onnx", "photo.png", "-o", "locked")
    assert (told.code, "locked" in told.err) == (1, True)


def test_a_photograph_is_shown_at_its_own_resolution(call, here):
    assert call("explain", "model.onnx", "photo.png", "-o", "out").code == 0
    with Image.open(here / "out/photo.png") as picture:
        assert picture.height > 320
