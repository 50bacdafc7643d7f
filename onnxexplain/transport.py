"""Carrying a map to the input: each unit spreads over its receptive field, and nothing is lost.

A unit is a receptive field; its value is spread over it as a normal whose two-sigma window is the
field (de la Torre, Valls and Puig 2017, section 3.4), cut off at the image's edge and made to sum
to one again. The normal is separable, so a map is carried by two small matrices.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from onnxexplain.graph import ReceptiveField
from onnxexplain.graph.receptive_field import Axis

Array = np.ndarray[Any, Any]


def to_input(
    values: Array, field: ReceptiveField | None, sizes: Sequence[int], prior: str = "gauss"
) -> Array:
    """Carry ``values`` [..., h, w] to [..., *sizes], float64; every unit keeps its sum.

    ``field`` None stands for units that see the whole input. ``prior`` is ``gauss`` (sigma = size
    / 4, cut off at two sigma), ``flat``, or ``delta`` (everything to the centre).
    """
    rank = len(sizes)
    units = values.shape[values.ndim - rank :]
    field = field or tuple(Axis(n, n, (n - 1) / 2) for n in sizes)
    carried = values.astype(np.float64)
    for i, (axis, n, many) in enumerate(zip(field, sizes, units, strict=True)):
        at = values.ndim - rank + i
        if n == many and axis.size == 1:
            continue
        matrix = spreading(axis, many, n, prior)
        carried = np.moveaxis(np.moveaxis(carried, at, -1) @ matrix.T, -1, at)
    return carried


@lru_cache(maxsize=128)
def spreading(axis: Axis, units: int, size: int, prior: str) -> Array:
    """Return the matrix [size, units] whose column i spreads unit i along one axis of the input."""
    centres = np.clip(axis.start + axis.stride * np.arange(units), 0, size - 1)
    distance = np.abs(np.arange(size)[:, None] - centres[None, :])
    if prior == "delta":
        weight = np.maximum(1 - distance, 0.0)  # between two pixels: shared by nearness
    else:
        inside = distance <= max(axis.size / 2, 0.5)
        bell = np.exp(-0.5 * (distance / (axis.size / 4)) ** 2)
        weight = np.where(inside, bell if prior == "gauss" else 1.0, 0.0)
    matrix: Array = weight / weight.sum(axis=0)
    matrix.flags.writeable = False
    return matrix


def resize(values: Array, sizes: Sequence[int]) -> Array:
    """Resize maps [..., h, w] to [..., *sizes], linearly between half-pixel centres."""
    rank = len(sizes)
    out = values
    for i, n in enumerate(sizes):
        at = values.ndim - rank + i
        many = values.shape[at]
        place = np.clip((np.arange(n) + 0.5) * many / n - 0.5, 0, many - 1)
        low = np.minimum(place.astype(int), max(many - 2, 0))
        part = (place - low).astype(values.dtype)
        column = part.reshape(-1, *(1,) * (values.ndim - at - 1))
        high = np.minimum(low + 1, many - 1)
        out = np.take(out, low, at) * (1 - column) + np.take(out, high, at) * column
    return out
