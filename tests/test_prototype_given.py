"""Class prototypes: what may be asked for, what is refused, what is written and drawn."""

import math

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox
from onnxexplain.prototypes.canvas import canvas
from tests.builders import net, weights
from tests.nets import NETS

LINEAR = net(
    "(float[N,8] x) => (float[N,5] y) { h = Gemm<transB=1>(x, w)  y = Gemm<transB=1>(h, v, b) }",
    **weights(3, w=(6, 8), b=(5,), v=(5, 6)),
)


def test_mean_images_by_class_by_target_and_for_all(rng):
    z = rng.uniform(0, 1, (5, 8)).astype(np.float32)
    options = {"start": "mean", "steps": 0}
    by_class = ox.prototype(LINEAR, [4, 1], mean=z, **options)
    assert np.array_equal(by_class.images, z[[4, 1]])
    by_target = ox.prototype(LINEAR, [4, 1], mean=z[:2], **options)
    assert np.array_equal(by_target.images, z[:2])
    for one in (z[0], z[:1]):
        assert np.array_equal(ox.prototype(LINEAR, [4, 1], mean=one, **options).images, z[[0, 0]])


def test_targets_are_numbers_labels_or_all():
    names = ["a", "b", "c", "d", "e"]
    options = {"steps": 1, "labels": names}
    assert ox.prototype(LINEAR, "c", **options).target.tolist() == [2]
    assert ox.prototype(LINEAR, ["c", 0], **options).names == ["c", "a"]
    assert ox.prototype(LINEAR, np.int64(3), steps=1).names == ["class 3"]
    assert ox.prototype(LINEAR, np.array([3, 1]), steps=1).target.tolist() == [3, 1]
    assert ox.prototype(LINEAR, "all", **options).images.shape == (5, 8)


def test_progress_is_told():
    told = []
    p = ox.prototype(LINEAR, 1, steps=450, progress=lambda *now: told.append(now))
    assert told[0] == (0, 450, pytest.approx(p.loss[0]))
    assert told[-1] == (450, 450, pytest.approx(p.loss[-1]))
    assert len(told) <= 226


# ----- Canvas -----


@pytest.mark.parametrize(
    ("inputs", "recipe", "layout", "shape", "sizes"),
    [
        ("float[N,3,6,4] x", None, "NCHW", (3, 6, 4), (6, 4)),
        ("float[N,6,4,3] x", None, "NHWC", (6, 4, 3), (6, 4)),
        ("float[N,1,h,w] x", {"size": [5, 7]}, "NCHW", (1, 5, 7), (5, 7)),
        ("float[N,64] x", None, "flat", (64,), (8, 8)),
        ("float[N,24] x", {"size": [4, 6]}, "flat", (24,), (4, 6)),
        ("float[N,24] x", None, "", (24,), None),
        ("float[N,9] x", None, "", (9,), None),
        ("float[N,2,30] x", None, "", (2, 30), None),
        ("float[N,5,6,4] x", None, "", (5, 6, 4), None),
    ],
)
def test_what_an_input_is_painted_on(rng, inputs, recipe, layout, shape, sizes):
    sheet = canvas(ox.load(net(f"({inputs}) => (float[N,k] y) {{ y = Flatten(x) }}")), recipe)
    assert (sheet.layout, sheet.shape, sheet.sizes) == (layout, shape, sizes)
    x = rng.standard_normal((2, *shape)).astype(np.float32)
    planes = sheet.read(x)
    assert planes.dtype == sheet.paint(planes).dtype == np.float32
    assert np.array_equal(sheet.paint(planes), x)
    if sizes:
        assert planes.shape[-2:] == sizes


# ----- Bad input -----


@pytest.mark.parametrize(
    ("kind", "words", "options"),
    [
        (ox.MethodError, "target 9 is out of range; the classes are 0 to 4", {"target": 9}),
        (ox.MethodError, "target -1", {"target": -1}),
        (ox.MethodError, "is a label, and the model has none", {"target": "cat"}),
        (ox.MethodError, "`top`: a prototype is of a class", {"target": "top"}),
        (ox.MethodError, "target", {"target": 2.5}),
        (ox.MethodError, "target", {"target": None}),
        (ox.MethodError, "empty", {"target": []}),
        (ox.MethodError, "target", {"target": [1, [2, 3]]}),
        (ox.InputError, "start from: has shape [7]", {"start": np.zeros(7)}),
        (ox.InputError, "expected one of [1, 8]", {"start": np.zeros((3, 8))}),
        (ox.InputError, "NaN", {"start": np.full(8, np.nan)}),
        (ox.InputError, "numbers", {"start": np.array(["a"] * 8)}),
        (ox.MethodError, "no start `nose`", {"start": "nose"}),
        (ox.MethodError, "no mean image", {"start": "mean"}),
        (ox.InputError, "the mean image: has shape [4, 8]", {"mean": np.zeros((4, 8))}),
        (ox.InputError, "mean image: holds NaN", {"mean": np.full((5, 8), np.inf)}),
        (ox.MethodError, "steps is -1", {"steps": -1}),
        (ox.MethodError, "steps is 1.5", {"steps": 1.5}),
        (ox.MethodError, "rate is nan", {"rate": math.nan}),
        (ox.MethodError, "tv is -1", {"tv": -1}),
        (ox.MethodError, "blur_every is 0", {"blur_every": 0}),
        (ox.MethodError, "objective is `loss`", {"objective": "loss"}),
        (ox.MethodError, "bounds is (1, 0)", {"bounds": (1, 0)}),
        (ox.MethodError, "tv is for inputs with height and width", {"tv": 1.0}),
        (ox.MethodError, "jitter is for inputs", {"jitter": 1}),
        (ox.InputError, "2 labels do not fit", {"labels": ["a", "b"]}),
        (ox.MethodError, "no tensor `z`", {"output": "z"}),
        (ox.MethodError, "take a smaller rate", {"rate": 1e38, "steps": 3, "l2": 1.0}),
        (ox.MethodError, "preprocess is 3", {"preprocess": 3}),
    ],
)
def test_bad_input_ends_in_one_line(kind, words, options):
    proto = LINEAR
    if options.get("preprocess"):
        proto = NETS["relu"]
    with pytest.raises(ox.OnnxExplainError) as caught:
        ox.prototype(proto, **{"target": 1, "steps": 2, **options})
    assert type(caught.value) is kind, caught.value
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_painted_for():
    two = net("(float[N,2] a, float[N,2] b) => (float[N,2] y) { y = Add(a, b) }")
    with pytest.raises(ox.MethodError, match="several inputs"):
        ox.prototype(two, 0)
    bytes_in = net("(uint8[N,2] a) => (float[N,2] y) { y = Cast<to=1>(a) }")
    with pytest.raises(ox.MethodError, match="uint8; a prototype needs floats"):
        ox.prototype(bytes_in, 0)
    open_ = net("(float[N,1,h,w] a) => (float[N,1] y) { g = GlobalMaxPool(a)  y = Flatten(g) }")
    with pytest.raises(ox.InputError, match="leaves its size open"):
        ox.prototype(open_, 0)
    assert ox.prototype(open_, 0, np.ones((1, 1, 4, 5)), steps=1).images.shape == (1, 1, 4, 5)


# ----- What is written and drawn -----


def test_files(tmp_path):
    p = ox.prototype(NETS["relu"], [0, 2], "grey", steps=12, tv=0.1, frames=5)
    assert p.frame_steps[0] == 0
    assert p.frame_steps[-1] == 12
    assert np.array_equal(p.frames[-1], p.images)
    assert np.allclose(p.loss, p.losses["score"] + p.losses["tv"])
    p.save(tmp_path, "x")
    assert {f.name for f in tmp_path.iterdir()} == {
        f"x{end}" for end in (".npz", ".json", ".png", ".loss.png", ".gif")
    }
    with np.load(tmp_path / "x.npz", allow_pickle=False) as held:
        assert np.array_equal(held["images"], p.images)
        assert held["loss"].shape == held["loss/tv"].shape == (13,)
    with Image.open(tmp_path / "x.gif") as film:
        assert film.n_frames == len(p.frame_steps)


@pytest.mark.parametrize("start", ["zeros", "noise", np.ones((1, 8), np.float32)])
def test_a_table_is_drawn_as_bars(start):
    p = ox.prototype(LINEAR, [0, 2], start, steps=5)
    figure = p.plot()
    assert [ax.get_title(loc="left").split(",")[0] for ax in figure.axes] == ["class 0", "class 2"]


def test_pictures_stand_five_in_a_row():
    flat = net("(float[N,64] x) => (float[N,12] y) { y = MatMul(x, w) }", **weights(2, w=(64, 12)))
    p = ox.prototype(flat, "all", steps=3, labels=[f"Digit:{n}" for n in range(12)])
    axes = [ax for ax in p.plot().axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left").split("\n")[0] for ax in axes] == p.names
    rows = {round(ax.get_position().y0, 4) for ax in axes}
    assert len(rows) == 3
    assert axes[0].images[0].get_array().shape == (8, 8)
    started = ox.prototype(flat, [1, 2], np.ones(64), steps=3).plot()
    assert started.axes[0].get_title(loc="left") == "the start"
    assert p._repr_png_()[:4] == b"\x89PNG"
