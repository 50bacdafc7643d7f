"""How a photograph becomes what a model takes: asked for, named, or written in the model itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxexplain.errors import InputError, MethodError, nearest

if TYPE_CHECKING:
    from onnxexplain.graph import Model, ValueInfo

CHOICES = {
    "mode": ("crop", "resize", "fundus"),
    "channels": ("rgb", "bgr", "gray"),
    "layout": ("NCHW", "NHWC", "NHW"),
    "interpolation": ("nearest", "box", "bilinear", "bicubic", "lanczos"),
}

PRESETS: dict[str, dict[str, Any]] = {
    # torchvision's classifiers and most that were trained on ImageNet since
    "imagenet": {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    # Caffe's: blue first, bytes, the mean colour taken off
    "caffe": {"size": 224, "scale": 255, "channels": "bgr", "mean": (103.939, 116.779, 123.68)},
    # Keras's and Inception's: from -1 to 1
    "inception": {"mean": 0.5, "std": 0.5},
    "clip": {
        "size": 224,
        "interpolation": "bicubic",
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
    },
    "unit": {},
    "bytes": {"scale": 255},
    # the diabetic-retinopathy network of de la Torre, Valls and Puig; any photograph of a retina
    "fundus": {
        "size": 640,
        "mode": "fundus",
        "interpolation": "lanczos",
        "mean": (0.382, 0.265, 0.189),
        "std": (0.290, 0.210, 0.170),
    },
    # the same for photographs whose retina fills the square already
    "retina": {
        "size": 640,
        "interpolation": "lanczos",
        "mean": (0.382, 0.265, 0.189),
        "std": (0.290, 0.210, 0.170),
    },
}
"""Preprocessing that goes by a name."""


@dataclass(frozen=True)
class Recipe:
    """What is done to a photograph before a model sees it.

    Attributes
    ----------
    size
        height and width; None keeps the photograph's own.
    mode
        ``crop``: the short side is resized and the middle kept; ``resize``: both sides are;
        ``fundus``: the retina's disc is found and fills the image, on black.
    scale
        the value of a white pixel.
    mean, std
        taken off and divided by, in that scale and in the order of ``channels``.
    """

    size: tuple[int, int] | None = None
    mode: str = "crop"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "rgb"
    layout: str = "NCHW"
    interpolation: str = "bilinear"

    @classmethod
    def read(cls, record: Mapping[str, Any], where: str) -> "Recipe":
        """Return the recipe that a record describes, checked; ``where`` begins every complaint."""
        known = [f.name for f in fields(cls)]
        for key in record:
            if key not in known:
                raise InputError(f"{where}: no preprocessing step `{key}`{nearest(key, known)}")
        made = {key: _value(key, value, where) for key, value in record.items()}
        recipe = cls(**made)
        if 0 in recipe.std:
            raise InputError(f"{where}: std holds a 0, which nothing can be divided by")
        if recipe.scale == 0:
            raise InputError(f"{where}: scale is 0, which would make every pixel black")
        return recipe

    def record(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def _value(key: str, value: Any, where: str) -> Any:
    try:
        if key == "size":
            return _size(value)
        if key in ("mean", "std"):
            numbers = value if isinstance(value, (list, tuple)) else [value]
            return tuple(float(v) for v in numbers)
        if key == "scale":
            return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {key} is {value!r}, which is not what it takes") from error
    if value not in CHOICES[key]:
        raise InputError(
            f"{where}: {key} is {value!r}; it must be one of {', '.join(CHOICES[key])}"
        )
    return value


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)] * 2
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(value)
    return sides[0], sides[1]


# ----- Whose word counts -----


def recipe_for(
    model: "Model", info: "ValueInfo", preset: str | None, flags: Mapping[str, Any]
) -> Recipe:
    """Return the recipe for one input of a model.

    What is asked for by ``flags`` counts most, then the named or written ``preset``, then what the
    model's metadata says. Where the model's own input shape fixes a size or a layout, nothing but a
    flag goes against it.
    """
    record = dict(model.preprocess or {})
    where = f"{model.source}: metadata `onnxexplain.preprocess`"
    if preset is not None:
        record, where = named(preset), f"preprocessing `{preset}`"
    recipe = Recipe.read(record, where)
    asked = Recipe.read(flags, "preprocessing")
    shape = info.shape
    layout = asked.layout if "layout" in flags else _layout(shape, recipe.layout, info.name)
    size = asked.size if "size" in flags else _stated(shape, layout) or recipe.size
    given = {key: getattr(asked, key) for key in flags}
    recipe = replace(recipe, **{**given, "layout": layout, "size": size})
    return _with_channels(recipe, shape, info.name)


def named(preset: str) -> dict[str, Any]:
    """Return the record of a preset, or of a JSON file.

    Raises
    ------
    MethodError
        if it is neither a known name nor a file.
    InputError
        if the file holds no JSON object.
    """
    if preset in PRESETS:
        return dict(PRESETS[preset])
    path = Path(preset)
    if not path.is_file():
        raise MethodError(
            f"no preprocessing `{preset}`, and no such file{nearest(preset, PRESETS)}"
        )
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f'{path}: preprocessing is a JSON object, such as {{"scale": 255}}')
    return record


def _layout(shape: Any, otherwise: str, name: str) -> str:
    """Read the layout off the input's shape; a free channel axis leaves it open."""
    if shape is None:
        return otherwise
    if len(shape) == 3:
        return "NHW"
    if len(shape) != 4:
        said = "[" + ", ".join(str(d) if d is not None else "?" for d in shape) + "]"
        raise InputError(
            f"input `{name}` {said} has no height and width to put a photograph in; "
            "give an .npy or .npz file"
        )
    if otherwise == "NHWC" and shape[3] in (1, 3):
        return "NHWC"
    if shape[1] in (1, 3):
        return "NCHW"
    return "NHWC" if shape[3] in (1, 3) else otherwise


def _stated(shape: Any, layout: str) -> tuple[int, int] | None:
    if shape is None or len(shape) != len(layout):
        return None
    sides = (shape[layout.index("H")], shape[layout.index("W")])
    return sides if all(isinstance(n, int) and n > 0 for n in sides) else None


def _with_channels(recipe: Recipe, shape: Any, name: str) -> Recipe:
    """Grey where the model takes one channel; refuse what is neither one nor three."""
    count: Any = 3
    if recipe.layout == "NHW":
        count = 1
    elif shape is not None and len(shape) == 4:
        count = shape[recipe.layout.index("C")]
    if isinstance(count, int) and count not in (1, 3):
        raise InputError(
            f"input `{name}` takes {count} channels, a photograph has 1 or 3; "
            "give an .npy or .npz file"
        )
    if count == 1:
        recipe = replace(recipe, channels="gray")
    many = 1 if recipe.channels == "gray" else 3
    for key in ("mean", "std"):
        if len(getattr(recipe, key)) not in (1, many):
            raise InputError(
                f"preprocessing: {key} has {len(getattr(recipe, key))} values for {many} channel(s)"
            )
    return recipe
