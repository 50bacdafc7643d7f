"""Photographs become inputs, and maps go back to photographs."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox
from onnxexplain.photograph.image import as_photograph, prepare, read_photo
from onnxexplain.photograph.labels import read_labels
from onnxexplain.photograph.recipe import PRESETS, Recipe, recipe_for
from tests.builders import net
from tests.pictures import classifier, photograph


def model_of(shape: str) -> ox.Model:
    return ox.load(net(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}"))


def recipe(shape: str, preset: str | None = None, **flags: object) -> Recipe:
    model = model_of(shape)
    return recipe_for(model, model.inputs["x"], preset, flags)


# ----- How -----


@pytest.mark.parametrize(
    ("shape", "layout", "size", "channels"),
    [
        ("N,3,32,48", "NCHW", (32, 48), "rgb"),
        ("N,32,48,3", "NHWC", (32, 48), "rgb"),
        ("N,1,32,48", "NCHW", (32, 48), "gray"),
        ("N,32,48,1", "NHWC", (32, 48), "gray"),
        ("N,32,48", "NHW", (32, 48), "gray"),
        ("N,3,H,W", "NCHW", None, "rgb"),
    ],
)
def test_size_layout_and_channels_are_read_off_the_input(shape, layout, size, channels):
    found = recipe(shape)
    assert (found.layout, found.size, found.channels) == (layout, size, channels)


def test_flags_count_more_than_presets_and_presets_more_than_metadata():
    model = ox.load(classifier(preprocess={"scale": 255, "mean": [1, 2, 3], "channels": "bgr"}))
    info = model.inputs["x"]
    assert recipe_for(model, info, None, {}).mean == (1, 2, 3)
    assert recipe_for(model, info, None, {"scale": 2.0}).scale == 2
    named = recipe_for(model, info, "imagenet", {"std": [1.0]})
    assert (named.scale, named.channels, named.std) == (1, "rgb", (1,))
    assert named.mean == PRESETS["imagenet"]["mean"]
    assert named.size == (24, 24)  # the model's own shape stands against the preset's 224


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_recipe(name):
    assert Recipe.read(PRESETS[name], name)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"sizes": 3}, "nearest: size"),
        ({"size": "big"}, "size is 'big'"),
        ({"size": [1, 2, 3]}, "size"),
        ({"mode": "stretch"}, "crop, resize"),
        ({"std": [1, 0, 1]}, "std holds a 0"),
        ({"mean": ["a"]}, "mean"),
    ],
)
def test_a_wrong_record_is_named(record, said):
    with pytest.raises(ox.InputError, match=said):
        Recipe.read(record, "here")


def test_an_input_that_is_no_picture_is_refused():
    for shape in ("N,10", "N,4,32,32", "N,1,8,8,8"):
        with pytest.raises(ox.InputError, match="npy"):
            recipe(shape)


def test_a_json_file_says_how(tmp_path):
    path = tmp_path / "how.json"
    path.write_text(json.dumps({"scale": 255, "mode": "resize"}))
    assert recipe("N,3,8,8", str(path)).mode == "resize"
    path.write_text("{")
    with pytest.raises(ox.InputError, match="JSON"):
        recipe("N,3,8,8", str(path))
    with pytest.raises(ox.MethodError, match="nearest: imagenet"):
        recipe("N,3,8,8", "imagnet")


# ----- What becomes of a photograph -----


def test_the_short_side_is_resized_and_the_middle_kept():
    made = prepare(photograph(60, 40), Recipe(size=(20, 20)))
    by_hand = photograph(60, 40).resize((30, 20), Image.Resampling.BILINEAR).crop((5, 0, 25, 20))
    wanted = np.asarray(by_hand, np.float32).transpose(2, 0, 1)[None] / 255
    np.testing.assert_allclose(made.values, wanted, atol=1e-6)
    assert made.box == (10, 0, 50, 40)
    assert made.record()["photograph"] == [40, 60]


def test_resizing_keeps_everything():
    made = prepare(photograph(60, 40), Recipe(size=(20, 24), mode="resize"))
    assert made.values.shape == (1, 3, 20, 24)
    assert made.box == (0, 0, 60, 40)


def test_scale_mean_and_deviation_are_in_the_order_of_the_channels():
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    made = prepare(red, Recipe(scale=255, channels="bgr", mean=(1, 2, 3), std=(2, 2, 4)))
    np.testing.assert_allclose(made.values[0, :, 0, 0], [-0.5, -1, 63])
    last = prepare(red, Recipe(scale=255, channels="bgr", mean=(1, 2, 3), layout="NHWC"))
    np.testing.assert_allclose(last.values[0, 0, 0], [-1, -2, 252])


def test_grey_models_see_grey():
    made = prepare(photograph(), Recipe(size=(8, 8), channels="gray"))
    assert made.values.shape == (1, 1, 8, 8)
    assert (made.seen[..., 0] == made.seen[..., 2]).all()


def test_a_map_goes_back_to_where_it_came_from():
    made = prepare(photograph(60, 40), Recipe(size=(20, 20)))
    values = np.zeros((2, 20, 20), np.float32)
    values[1, 5, 10] = 1
    back = made.carry_back(values, smooth=False)
    assert back.shape == (2, 40, 60)
    assert np.isnan(back[:, :, :10]).all() and np.isnan(back[:, :, 50:]).all()
    ys, xs = np.nonzero(back[1] == 1)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (10, 11, 30, 31)


def test_an_input_can_be_looked_at_again():
    how = Recipe(mean=(0.4, 0.3, 0.2), std=(0.2, 0.3, 0.4))
    made = prepare(photograph(), how)
    again = as_photograph(made.values[0], False, how.record())
    assert np.abs(again.astype(int) - made.seen).max() <= 1
    assert as_photograph(np.zeros((1, 5, 6), np.float32), False, None).shape == (5, 6, 3)


# ----- Files -----


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    photograph(60, 40).save(tmp_path / "turned.jpg", exif=exif)
    assert read_photo(tmp_path / "turned.jpg").size == (40, 60)


def test_sixteen_bits_keep_their_shades(tmp_path):
    Image.fromarray(np.uint16([[0, 32896, 65535]])).save(tmp_path / "deep.png")
    assert np.asarray(read_photo(tmp_path / "deep.png")).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_open(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    photograph().convert(mode).save(path)
    assert read_photo(path).mode in ("L", "RGB")


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it holds."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an image"),
        (b"hello", "not an image"),
        (png_header(60_000, 60_000), "60000 x 60000 pixels"),
        (png_header(10_000, 10_000), "--max-pixels"),
        (png_header(100, 100), "damaged, or cut short"),
    ],
)
def test_what_is_no_image_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ox.InputError, match=said) as caught:
        read_photo(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_truncated_jpeg_is_named(tmp_path):
    path = tmp_path / "cut.jpg"
    photograph(300, 300).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ox.InputError, match="cut short"):
        read_photo(path)


def test_pillows_own_limit_is_put_back(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    photograph().save(tmp_path / "a.png")
    read_photo(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS


# ----- Labels -----


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\n\n", ["cat", "dog"]),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ["tench, Tinca tinca", "goldfish"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ('{"1": "dog", "0": "cat"}', ["cat", "dog"]),
        ('{"0": ["n01440764", "tench"]}', ["tench"]),
        ('{"0": "cat", "2": "bird"}', ["cat", "1", "bird"]),
    ],
)
def test_labels_are_read_in_every_form(tmp_path, text, labels):
    (tmp_path / "labels").write_text(text)
    assert read_labels(tmp_path / "labels") == labels


@pytest.mark.parametrize("text", ["", "{", '{"a": "b"}', '{"0": "a", "999999999": "b"}', "[]"])
def test_wrong_labels_are_refused(tmp_path, text):
    (tmp_path / "labels").write_text(text)
    with pytest.raises(ox.InputError):
        read_labels(tmp_path / "labels")
