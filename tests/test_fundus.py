"""The retina is found in a photograph, however it was framed."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from onnxexplain.photograph import fundus
from onnxexplain.photograph.image import prepare
from onnxexplain.photograph.recipe import Recipe, named

LANCZOS = Image.Resampling.LANCZOS


def photograph(width, height, x, y, radius, light=1.0, notch=False, date=False, noise=4):
    """A disc with dim rims and dark spots on a dark and grainy ground."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[:height, :width] + 0.5
    away = np.hypot(across - x, down - y) / radius
    disc = np.stack([190 - 60 * away**2, 100 - 40 * away**2, 50 - 20 * away**2], -1) * light
    inside = away < 1
    if notch:
        inside |= np.hypot(across - x - 0.72 * radius, down - y + 0.72 * radius) < 0.08 * radius
    photo = np.where(inside[..., None], disc, 0) + rng.uniform(0, noise, (height, width, 1))
    image = Image.fromarray(photo.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(10):
        at = np.array([x, y]) + rng.normal(0, 0.3 * radius, 2)
        draw.ellipse([*(at - radius / 20), *(at + radius / 20)], fill=(30, 8, 4))
    if date:
        draw.text((4, 4), "2026-01-01 OD", fill=(255, 255, 255))
    return image


@pytest.mark.parametrize(
    "frame",
    [
        {"width": 640, "height": 640, "x": 320, "y": 320, "radius": 300},
        {"width": 900, "height": 600, "x": 430, "y": 310, "radius": 260},
        {"width": 900, "height": 500, "x": 450, "y": 250, "radius": 330},  # cut above and below
        {"width": 700, "height": 700, "x": 260, "y": 350, "radius": 300},  # and at a side
        {"width": 2600, "height": 2000, "x": 1350, "y": 990, "radius": 900},  # megapixels
        {"width": 900, "height": 600, "x": 430, "y": 310, "radius": 260, "light": 0.2},
        {"width": 900, "height": 600, "x": 450, "y": 300, "radius": 250, "notch": True},
        {"width": 900, "height": 600, "x": 450, "y": 300, "radius": 250, "date": True},
        {"width": 120, "height": 90, "x": 61, "y": 44, "radius": 38},
    ],
)
def test_finds_the_disc(frame):
    disc = fundus.find(photograph(**frame))
    assert disc.found
    radius = frame["radius"]
    found = np.array([disc.x, disc.y, disc.radius])
    assert np.abs(found - [frame["x"], frame["y"], radius]).max() < max(0.012 * radius, 1)


def test_cut_fills_the_image_and_blackens_the_rest():
    image = photograph(900, 500, 450, 250, 330, noise=12)
    cut, disc = fundus.cut(image, (256, 256), LANCZOS)
    assert cut.size == (256, 256)
    assert np.allclose(disc.box, (120, -80, 780, 580), atol=5)
    pixels = np.asarray(cut)
    y, x = (np.mgrid[:256, :256] + 0.5) / 128 - 1
    assert not pixels[np.hypot(x, y) > 1].any()
    assert pixels[128, 2:-2].max(-1).min() > 8  # as far as the rim on either side
    assert not pixels[:25].any()  # above the photograph there is nothing


def test_prepared_retina_stays_as_it_is():
    image = photograph(640, 640, 320, 320, 318)
    cut, disc = fundus.cut(image, (640, 640), LANCZOS)
    assert disc.box == (0, 0, 640, 640)
    y, x = (np.mgrid[:640, :640] + 0.5) / 320 - 1
    inside = np.hypot(x, y) < 1
    assert np.array_equal(np.asarray(cut)[inside], np.asarray(image)[inside])


def test_without_a_size_the_disc_keeps_its_own():
    cut, _ = fundus.cut(photograph(900, 600, 430, 310, 260), None, LANCZOS)
    assert abs(cut.width - 520) < 6
    assert cut.width == cut.height


def test_maps_go_back_onto_the_photograph():
    """The middle of the disc lies where it was, though the frame cuts both ends off."""
    recipe = Recipe.read(named("fundus"), "test")
    picture = prepare(photograph(900, 500, 450, 250, 330), recipe)
    assert picture.values.shape == (1, 3, 640, 640)
    record = picture.record()
    assert record["mode"] == "fundus"
    assert record["disc_found"] is True
    assert np.allclose([*record["centre"], record["radius"]], [450, 250, 330], atol=4)
    down, across = np.mgrid[:640, :640] + 0.5
    back = picture.carry_back(np.stack([across, down]).astype(np.float32))
    assert back.shape == (2, 500, 900)
    assert np.isnan(back[:, :, :110]).all()
    assert np.isfinite(back[:, :, 130:770]).all()
    assert np.allclose(back[:, 250, 450], 320, atol=6)
    assert np.allclose(back[:, 0, 450], [320, (80 / 660) * 640], atol=6)


def test_grey_photograph():
    cut, _ = fundus.cut(photograph(300, 200, 150, 100, 80).convert("L"), (64, 64), LANCZOS)
    assert cut.mode == "L"


@pytest.mark.parametrize("value", [0, 128, 255])
def test_without_a_disc_the_middle_is_taken(value):
    disc = fundus.find(Image.new("RGB", (300, 200), (value, value, value)))
    assert disc == fundus.Disc(150, 100, 100, found=False)


def test_the_record_tells_that_no_disc_was_found():
    recipe = Recipe.read(named("fundus"), "test")
    told = prepare(Image.new("RGB", (300, 200), (9, 9, 9)), recipe).record()
    assert told["disc_found"] is False
    assert (told["centre"], told["radius"]) == ([150, 100], 100)


def test_other_recipes_look_for_no_disc():
    recipe = Recipe.read(named("imagenet"), "test")
    assert "disc_found" not in prepare(Image.new("RGB", (300, 200)), recipe).record()


def test_tiny_photograph():
    assert not fundus.find(Image.new("RGB", (8, 5))).found


def test_real_photograph(data):
    """One that fills its frame already, and the same lost in a larger and darker one."""
    with Image.open(data("fundus_640.png")) as file:
        image = file.convert("RGB")
    assert fundus.find(image).box == (0, 0, 640, 640)
    frame = Image.new("RGB", (1500, 900), (3, 3, 3))
    frame.paste(image.point(lambda v: v // 2), (500, 130))
    disc = fundus.find(frame)
    assert np.allclose([disc.x, disc.y, disc.radius], [820, 450, 320], atol=5)
