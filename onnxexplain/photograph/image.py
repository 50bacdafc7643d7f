"""From a photograph to what a model takes, and from a map back to the photograph."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from onnxexplain.errors import InputError, first_line
from onnxexplain.photograph import fundus
from onnxexplain.photograph.recipe import Recipe

if TYPE_CHECKING:
    from onnxexplain.graph import ValueInfo

Array = np.ndarray[Any, Any]

MOST_PIXELS = 50_000_000
"""The largest photograph that is opened unless more is asked for."""

_RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Picture:
    """A photograph and what became of it.

    Attributes
    ----------
    values
        what the model takes, a batch of one.
    seen
        what the model sees, as a person would: uint8 [H,W,3] at the model's resolution.
    photo
        the whole photograph, upright: uint8 [h,w,3].
    box
        the part of it that the model sees: left, top, right, bottom, in its pixels; a disc that
        the frame cuts off reaches beyond it.
    disc
        the retina's disc that the box is about, where the recipe looks for one.
    """

    values: Array
    seen: Array
    photo: Array
    box: tuple[float, float, float, float]
    recipe: Recipe
    disc: fundus.Disc | None = None

    def record(self) -> dict[str, Any]:
        """Return what was done, as JSON takes it."""
        height, width = self.photo.shape[:2]
        done = {
            **self.recipe.record(),
            "size": list(self.seen.shape[:2]),
            "photograph": [height, width],
            "box": [round(v, 3) for v in self.box],
        }
        if self.disc is not None:
            done["disc_found"] = self.disc.found
            done["centre"] = [round(self.disc.x, 3), round(self.disc.y, 3)]
            done["radius"] = round(self.disc.radius, 3)
        return done

    def carry_back(self, values: Array, *, smooth: bool = True) -> Array:
        """Return maps [..., H, W] of the model's input as maps of the photograph [..., h, w].

        What the model never saw is NaN. ``smooth`` interpolates bilinearly; without it every pixel
        takes the value of the nearest.
        """
        left, top, right, bottom = (round(v) for v in self.box)
        height, width = self.photo.shape[:2]
        method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
        out = np.full((*values.shape[:-2], height, width), np.nan, np.float32)
        size = (max(right - left, 1), max(bottom - top, 1))
        # A box may reach beyond the photograph, into black that was added.
        rows, columns = slice(max(top, 0), top + size[1]), slice(max(left, 0), left + size[0])
        inside = np.s_[max(-top, 0) : height - top, max(-left, 0) : width - left]
        for index in np.ndindex(values.shape[:-2]):
            plane = Image.fromarray(np.ascontiguousarray(values[index], np.float32))
            out[index][rows, columns] = np.asarray(plane.resize(size, method))[inside]
        return out


# ----- Reading -----


def read_photo(path: str | Path, most: int = MOST_PIXELS) -> Image.Image:
    """Open a photograph, upright as its EXIF data says, in grey or in RGB.

    Raises
    ------
    InputError
        if it is no image, damaged, or larger than ``most`` pixels.
    """
    path = Path(path)
    with _as_input_error(path, most):
        with Image.open(path) as image:
            if image.width * image.height > most:
                raise InputError(
                    f"{path}: {image.width} x {image.height} pixels are more than {most:,}; "
                    "raise --max-pixels if you trust the file"
                )
            image.load()
            upright = ImageOps.exif_transpose(image)
        return _eight_bits(upright, path)


@contextmanager
def _as_input_error(path: Path, most: int) -> Iterator[None]:
    """Turn whatever Pillow raises into one line; its own limit on pixels gives way to ours."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not an image") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image that Pillow knows, nor .npy or .npz") from error
    except MemoryError as error:
        raise InputError(f"{path}: too large for the memory") from error
    except Exception as error:  # every decoder of Pillow has kinds of its own
        raise InputError(f"{path}: damaged, or cut short ({first_line(error)})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Return the image in mode L or RGB; sixteen bits are scaled, which Pillow would cut off."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    if image.mode == "F":
        raise InputError(f"{path}: holds floating-point numbers; save them as .npy instead")
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    return image.convert("RGB")


# ----- Preparing -----


def prepare(image: Image.Image, recipe: Recipe, info: "ValueInfo | None" = None) -> Picture:
    """Do to a photograph what ``recipe`` says."""
    photo = np.asarray(image.convert("RGB"))
    disc = None
    if recipe.mode == "fundus":
        cut, disc = fundus.cut(image, recipe.size, _RESAMPLE[recipe.interpolation])
        box = disc.box
    else:
        cut, box = _cut(image, recipe)
    cut = cut.convert("L" if recipe.channels == "gray" else "RGB")
    pixels = np.asarray(cut, np.float32)
    if recipe.channels == "bgr":
        pixels = pixels[..., ::-1]
    values = pixels * np.float32(recipe.scale / 255)
    values = values.reshape(*values.shape[:2], -1)
    values = (values - _floats(recipe.mean)) / _floats(recipe.std)
    if recipe.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    elif recipe.layout == "NHW":
        values = values[..., 0]
    values = np.ascontiguousarray(values[None], np.float32)
    if info is not None and np.dtype(_dtype(info)).kind in "iu":
        values = values.round().astype(info.dtype)
    return Picture(values, np.asarray(cut.convert("RGB")), photo, box, recipe, disc)


def _floats(numbers: tuple[float, ...]) -> Array:
    return np.asarray(numbers, np.float32)


def _dtype(info: "ValueInfo") -> str:
    return info.dtype if info.dtype not in ("unknown", "bfloat16") else "float32"


def _cut(
    image: Image.Image, recipe: Recipe
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Resize, then keep the middle; the sizes are rounded as torchvision rounds them."""
    width, height = image.size
    if recipe.size is None:
        return image, (0.0, 0.0, width, height)
    rows, columns = recipe.size
    method = _RESAMPLE[recipe.interpolation]
    if recipe.mode == "resize":
        return image.resize((columns, rows), method), (0.0, 0.0, width, height)
    if columns / width >= rows / height:
        size = (columns, max(rows, int(height * columns / width)))
    else:
        size = (max(columns, int(width * rows / height)), rows)
    left, top = round((size[0] - columns) / 2), round((size[1] - rows) / 2)
    whole = image if size == image.size else image.resize(size, method)
    across, down = width / size[0], height / size[1]
    box = (left * across, top * down, (left + columns) * across, (top + rows) * down)
    return whole.crop((left, top, left + columns, top + rows)), box


def as_photograph(values: Array, channels_last: bool, record: dict[str, Any] | None) -> Array:
    """Return one sample [C,H,W] or [H,W,C] of a model's input as uint8 [H,W,3].

    Where ``record`` does not say how it was made, its least and greatest values become black and
    white.
    """
    pixels = values[None] if values.ndim == 2 else values
    if not channels_last or values.ndim == 2:
        pixels = pixels.transpose(1, 2, 0)
    pixels = pixels.astype(np.float32)
    recipe = None if record is None else Recipe.read(record, "preprocessing")
    if recipe is not None and {len(recipe.mean), len(recipe.std)} <= {1, pixels.shape[-1]}:
        pixels = (pixels * _floats(recipe.std) + _floats(recipe.mean)) / recipe.scale
        if recipe.channels == "bgr":
            pixels = pixels[..., ::-1]
    else:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / max(float(high - low), 1e-12)
    if pixels.shape[-1] == 3:
        rgb = pixels
    else:
        rgb = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    return np.asarray((rgb.clip(0, 1) * 255).round().astype(np.uint8))
