"""What keeps a prototype from being noise: each gives a value per sample, and its derivative."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

Penalty = Callable[[Array], tuple[Array, Array]]
"""From planes [T,...] to a value per sample [T] and its derivative [T,...]."""

FLAT = 1e-4
"""Neighbours closer than this count as equal; it gives the variation a derivative at zero."""


def pull(to: Array, weight: float) -> Penalty:
    """Return ``weight * mean((x - to) ** 2)``, the mean over the elements of a sample."""

    def penalty(x: Array) -> tuple[Array, Array]:
        apart = x - to
        flat = apart.reshape(len(x), -1)
        each = np.einsum("tf,tf->t", flat, flat) * (weight / flat.shape[1])
        return each, apart * x.dtype.type(2 * weight / flat.shape[1])

    return penalty


def variation(weight: float) -> Penalty:
    """Return ``weight * mean(sqrt(dx ** 2 + dy ** 2))`` over the pixels: total variation.

    ``dx`` and ``dy`` are differences to the next pixel of a row and of a column (Rudin, Osher and
    Fatemi 1992).
    """

    def penalty(x: Array) -> tuple[Array, Array]:
        across, down = np.zeros_like(x), np.zeros_like(x)
        across[..., :-1] = np.diff(x, axis=-1)
        down[..., :-1, :] = np.diff(x, axis=-2)
        length = np.sqrt(across**2 + down**2 + x.dtype.type(FLAT**2))
        part = x.dtype.type(weight / x[0].size)
        each = (length - x.dtype.type(FLAT)).reshape(len(x), -1).sum(1) * part
        across, down = across / length, down / length
        g = -(across + down)
        g[..., 1:] += across[..., :-1]
        g[..., 1:, :] += down[..., :-1, :]
        return each, g * part

    return penalty
