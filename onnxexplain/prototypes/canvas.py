"""A model's input as a person paints it: planes of pixels from black, 0, to white, 1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxexplain.errors import InputError, MethodError
from onnxexplain.graph import Model, ValueInfo
from onnxexplain.photograph.recipe import Recipe, recipe_for

Array = np.ndarray[Any, Any]

LEAST_SQUARE = 64
"""So many numbers at the least, and a square number of them, are taken for a grey picture."""


@dataclass(frozen=True)
class Canvas:
    """The one input of a model, and how planes [T,C,H,W] become it.

    Where nothing says what black and white are, the planes hold the input's own values. An input
    without height and width (a table, a signal) is its own planes.

    Attributes
    ----------
    shape
        the input's shape for one sample, without the batch axis.
    layout
        ``NCHW``, ``NHWC``, ``NHW``, ``flat`` (a grey picture, row by row), or empty.
    sizes
        height and width, where it has them.
    told
        whether the recipe was given, or is in the model's metadata.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    sizes: tuple[int, int] | None
    recipe: Recipe
    told: bool

    @property
    def coloured(self) -> bool:
        """Whether it is a photograph in colours."""
        return self.layout in ("NCHW", "NHWC") and self._channels == 3

    @property
    def _channels(self) -> int:
        return self.shape[self.layout.index("C") - 1] if "C" in self.layout else 1

    @cached_property
    def black(self) -> Array:
        """The input's value where a pixel is black: a number, or one per channel [C,1,1]."""
        return self._per_channel(-np.array(self.recipe.mean) / np.array(self.recipe.std))

    @cached_property
    def span(self) -> Array:
        """What white is above black."""
        return self._per_channel(self.recipe.scale / np.array(self.recipe.std))

    def _per_channel(self, values: Array) -> Array:
        if values.size == 1:
            return values.reshape(())
        return values.reshape(-1, 1, 1)

    def paint(self, planes: Array) -> Array:
        """Return planes as the model's input [T,...]."""
        values = planes * self.span.astype(planes.dtype) + self.black.astype(planes.dtype)
        return np.ascontiguousarray(self._arranged(values))

    def read(self, values: Array) -> Array:
        """Return inputs [T,...] as planes."""
        planes = self._planes(values)
        black, span = self.black.astype(values.dtype), self.span.astype(values.dtype)
        return np.asarray((planes - black) / span)

    def slope(self, gradient: Array) -> Array:
        """Return a derivative by the input as one by the planes."""
        return np.asarray(self._planes(gradient) * self.span.astype(gradient.dtype))

    def _arranged(self, planes: Array) -> Array:
        if self.layout == "NHWC":
            return planes.transpose(0, 2, 3, 1)
        if self.layout in ("NHW", "flat"):
            return planes.reshape(len(planes), *self.shape)
        return planes

    def _planes(self, values: Array) -> Array:
        if self.layout == "NHWC":
            return values.transpose(0, 3, 1, 2)
        if self.layout in ("NHW", "flat") and self.sizes:
            return values.reshape(len(values), 1, *self.sizes)
        return values

    # ----- what a caller gives -----

    def given(self, what: str, values: Any, counts: Sequence[int], dtype: str) -> Array:
        """Return what a caller gave as planes, one sample or as many as one of ``counts``.

        Raises
        ------
        InputError
            if it has another shape, holds no numbers, or some that are not finite.
        """
        try:
            array = np.asarray(values)
        except ValueError as error:  # rows of unlike length
            raise InputError(f"{what}: no array ({' '.join(str(error).split())})") from error
        if array.dtype.kind not in "fiub":
            raise InputError(f"{what}: holds {array.dtype}, not numbers")
        if self.layout == "flat" and array.shape[-2:] == self.sizes:
            array = array.reshape(-1, *self.shape)
        if array.shape == self.shape:
            array = array[None]
        fits = array.shape[1:] == self.shape and len(array) in (1, *counts)
        if not fits:
            many = ", ".join(str([n, *self.shape]) for n in dict.fromkeys((1, *counts)))
            raise InputError(f"{what}: has shape {list(array.shape)}; expected one of {many}")
        array = array.astype(dtype)
        if not np.isfinite(array).all():
            raise InputError(f"{what}: holds NaN or infinite values")
        return self.read(array)

    # ----- what a person sees -----

    def pictures(self, planes: Array) -> Array:
        """Return coloured planes [...,3,H,W] as uint8 [...,H,W,3].

        Where nothing says what black and white are, and the values go beyond 0 and 1, each
        picture's least and greatest become black and white.
        """
        pixels = np.moveaxis(planes, -3, -1)
        if not self.told and (pixels.min() < 0 or pixels.max() > 1):
            axes = (-3, -2, -1)
            low, high = pixels.min(axes, keepdims=True), pixels.max(axes, keepdims=True)
            pixels = (pixels - low) / np.maximum(high - low, 1e-12)
        if self.recipe.channels == "bgr":
            pixels = pixels[..., ::-1]
        return np.asarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def canvas(
    model: Model, preprocess: str | Mapping[str, Any] | None, examples: Sequence[Any] = ()
) -> Canvas:
    """Return the canvas of a model's input.

    ``preprocess`` is a preset, a JSON file or a record, as for photographs; by default what the
    model's metadata says. ``examples`` are arrays a caller gave, one of which may tell a size that
    the model leaves open.

    Raises
    ------
    MethodError
        if the model has several inputs, or one of other than floats.
    InputError
        if the recipe does not fit the input, or its size cannot be told.
    """
    if len(model.inputs) != 1:
        names = ", ".join(model.inputs)
        raise MethodError(f"the model has several inputs ({names}); a prototype is of one")
    info = next(iter(model.inputs.values()))
    if not info.dtype.startswith(("float", "bfloat", "unknown")):
        raise MethodError(f"input `{info.name}` holds {info.dtype}; a prototype needs floats")
    told = preprocess is not None or model.preprocess is not None
    dims = _dims(info, examples)
    if not _pictured(dims, model, told):
        return Canvas(info.name, _closed(info, dims, None, "", examples), "", None, Recipe(), False)
    if len(dims) == 2:
        return _flat(model, info, dims, preprocess, told)
    recipe = _recipe(model, replace(info, shape=tuple(dims)), preprocess)
    shape = _closed(info, dims, recipe.size, recipe.layout, examples)
    axes = {letter: n for letter, n in zip(recipe.layout[1:], shape, strict=True)}
    recipe = replace(recipe, size=(axes["H"], axes["W"]))
    return Canvas(info.name, shape, recipe.layout, recipe.size, recipe, told)


def _recipe(model: Model, info: ValueInfo, preprocess: str | Mapping[str, Any] | None) -> Recipe:
    if preprocess is None or isinstance(preprocess, str):
        return recipe_for(model, info, preprocess, {})
    if not isinstance(preprocess, Mapping):
        raise MethodError(f"preprocess is {preprocess!r}; give a preset, a JSON file or a record")
    return recipe_for(model, info, None, preprocess)


def _dims(info: ValueInfo, examples: Sequence[Any]) -> list[int | str | None]:
    """The axes of the input as far as the file tells them, the batch's in front."""
    if info.shape is not None:
        return list(info.shape)
    ranks = [np.ndim(e) for e in examples]
    if not ranks:
        raise InputError(f"input `{info.name}` has an unknown shape; give an array to start from")
    return ["N", *[None] * (max(ranks) - 1)]


def _pictured(dims: list[int | str | None], model: Model, told: bool) -> bool:
    """Whether an input is a picture: of one or three channels, or by its metadata, or square."""
    if len(dims) == 4:
        return told or dims[1] in (1, 3) or dims[3] in (1, 3)
    if len(dims) == 3:
        return told
    if len(dims) != 2 or not isinstance(dims[1], int):
        return False
    return told or (dims[1] >= LEAST_SQUARE and math.isqrt(dims[1]) ** 2 == dims[1])


def _flat(
    model: Model,
    info: ValueInfo,
    dims: list[int | str | None],
    preprocess: str | Mapping[str, Any] | None,
    told: bool,
) -> Canvas:
    """A grey picture as one row of numbers."""
    count = int(dims[1] or 0)
    recipe = _recipe(model, replace(info, shape=(dims[0], None, None)), preprocess)
    side = math.isqrt(count)
    sizes = recipe.size or (side, side)
    if sizes[0] * sizes[1] != count:
        raise InputError(
            f"input `{info.name}` has {count} numbers, which make no picture of "
            f"{sizes[0]} x {sizes[1]}; say its size in the preprocessing"
        )
    return Canvas(info.name, (count,), "flat", sizes, recipe, told)


def _closed(
    info: ValueInfo,
    dims: Sequence[int | str | None],
    sizes: tuple[int, int] | None,
    layout: str,
    examples: Sequence[Any],
) -> tuple[int, ...]:
    """Return the shape of one sample, free axes filled by the recipe, then by an example."""
    shape = list(dims[1:])
    shown = [np.shape(e)[-len(shape) :] for e in examples if np.ndim(e) >= len(shape)]
    for axis, n in enumerate(shape):
        if isinstance(n, int) and n > 0:
            continue
        letter = layout[axis + 1] if layout else ""
        if sizes and letter in ("H", "W"):
            shape[axis] = sizes["HW".index(letter)]
        elif shown:
            shape[axis] = shown[0][axis]
        else:
            said = "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"
            raise InputError(
                f"input `{info.name}` {said} leaves its size open; "
                "give it by the preprocessing's size, or an array to start from"
            )
    return tuple(int(n) for n in shape if n is not None)
