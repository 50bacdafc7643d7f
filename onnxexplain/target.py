"""What is explained: a class, an element, or any linear combination of the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxexplain.errors import MethodError, nearest

Array = np.ndarray[Any, Any]

TOP = -1
"""Stands for the strongest class."""

SUM = "sum"
"""Asks for the sum of all the output's elements, as one seed."""


@dataclass(frozen=True)
class Aim:
    """One target for every sample: classes [N], or the combination itself."""

    classes: Array | None
    seed: Array | None = None
    against: Array | None = None

    @property
    def undecided(self) -> bool:
        """Whether the scores must be known to say which class is meant."""
        return self.classes is not None and bool((self.classes == TOP).any())

    def resolved(self, scores: Array) -> Array | None:
        """Return the class per sample, given the scores; None for a combination."""
        if self.classes is None:
            return None
        flat = scores.reshape(*scores.shape[:2], -1).sum(-1) if scores.ndim > 1 else scores[:, None]
        return np.where(self.classes == TOP, flat.argmax(1), self.classes)

    def seeds(self, scores: Array) -> Array:
        """Return the combination of the output's elements that is explained."""
        classes = self.resolved(scores)
        if classes is None:
            if self.seed is None:
                raise MethodError("a target is a class or a combination of the output")
            return self.seed.astype(scores.dtype)
        seed = _one_hot(classes, scores)
        if self.against is not None:
            seed = seed - _one_hot(self.against, scores)
        return seed


def _one_hot(classes: Array, scores: Array) -> Array:
    if scores.ndim == 1:
        return np.ones_like(scores)
    seed = np.zeros_like(scores)
    seed[np.arange(len(classes)), classes] = 1
    return seed


def read(
    target: Any, targets: Any, against: Any, shape: Sequence[int], labels: Sequence[str] | None
) -> list[Aim]:
    """Return one aim per target; ``targets`` may be ``"all"``.

    Raises
    ------
    MethodError
        if a target is none of the output's.
    """
    n, classes = shape[0] if shape else 1, shape[1] if len(shape) > 1 else 1
    if isinstance(targets, str):
        if targets != "all":
            raise MethodError(f'targets is `{targets}`; give a list, or "all"')
        targets = list(range(classes))
    if not isinstance(targets, list | tuple | np.ndarray | None):
        raise MethodError(f'targets is {_said(targets)}; give a list, or "all"')
    chosen = [target] if targets is None else list(targets)
    if not chosen:
        raise MethodError("targets is empty; give at least one class")
    aims = [_aim(t, shape, n, classes, labels) for t in chosen]
    if against is None:
        return aims
    if np.ndim(against):
        raise MethodError("against takes one class, or a label, for every sample")
    other = _aim(against, shape, n, classes, labels).classes
    if other is None or (other == TOP).any() or any(aim.classes is None for aim in aims):
        raise MethodError("against takes a class, or a label, and so does the target beside it")
    contrasts = []
    for aim in aims:
        marker = np.zeros(tuple(shape), np.float32)
        contrasts.append(Aim(aim.classes, marker, other))
    return contrasts


def _aim(
    target: Any, shape: Sequence[int], n: int, classes: int, labels: Sequence[str] | None
) -> Aim:
    if isinstance(target, str) and target == SUM:
        return Aim(None, np.ones(tuple(shape), np.float32))
    if isinstance(target, str):
        return Aim(np.full(n, TOP if target == "top" else _index(target, labels), np.int64))
    if isinstance(target, tuple):
        return Aim(None, _element(target, shape))
    try:
        array = np.asarray(target)
    except ValueError as error:  # rows of unlike length
        raise MethodError(f"target {_said(target)} is no array") from error
    if array.dtype.kind in "iu" and array.shape in ((), (n,)):
        _check_range(array, classes)
        return Aim(np.broadcast_to(array.astype(np.int64), (n,)).copy())
    if array.dtype.kind == "f" and array.shape in (tuple(shape), _trimmed(shape)):
        if not np.isfinite(array).all():
            raise MethodError("the target, a combination of the output, holds NaN or infinities")
        return Aim(None, array.astype(np.float32).reshape(tuple(shape)))
    raise MethodError(
        f"target {_said(target)} is no class, label, element or combination "
        f"of an output {list(shape)}"
    )


def _said(target: Any) -> str:
    if isinstance(target, np.ndarray):
        return f"of shape {list(target.shape)} and dtype {target.dtype}"
    return f"`{' '.join(str(target).split())[:60]}`"


def _check_range(array: Array, classes: int) -> None:
    for value in np.atleast_1d(array):
        if not 0 <= value < classes:
            raise MethodError(f"target {value} is out of range; the classes are 0 to {classes - 1}")


def _index(label: str, labels: Sequence[str] | None) -> int:
    if labels is None:
        raise MethodError(f"target `{label}` is a label, and the model has none; give labels=")
    if label not in labels:
        raise MethodError(f"no label `{label}`{nearest(label, labels)}")
    return list(labels).index(label)


def _element(index: tuple[Any, ...], shape: Sequence[int]) -> Array:
    inner = _trimmed(shape)[1:]
    if not all(isinstance(i, int | np.integer) for i in index):
        raise MethodError(f"target {_said(index)} is no element: its indices are not all whole")
    if len(index) != len(inner) or not all(-n <= i < n for i, n in zip(index, inner, strict=True)):
        raise MethodError(f"target {index} is no element of an output {list(inner)} per sample")
    seed = np.zeros(_trimmed(shape), np.float32)
    seed[(slice(None), *index)] = 1
    return seed.reshape(tuple(shape))


def _trimmed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its trailing axes of length 1, the batch axis kept."""
    kept = list(shape)
    while len(kept) > 1 and kept[-1] == 1:
        kept.pop()
    return tuple(kept)
