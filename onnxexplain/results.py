"""What an engine returns: raw arrays by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Results:
    """Raw arrays by name, T in front where several targets were asked for."""

    raw: dict[str, Array]
    """What was computed: ``attribution/<tensor>``, ``constants/<tensor>``, ``score``, ..."""
    values: dict[str, Array]
    """The model's own tensors, without T."""
    target: Array | None
    """The class explained, per sample; None for an element or a combination."""
    several: bool
    """Whether there is a T."""
    difference: float | None = None
    """How far the lowered model is from the file, relative; None where nothing changed."""
    runtime_difference: float | None = None
    """How far ONNX Runtime is from the file on this processor, where its sums overflow."""

    @classmethod
    def joined(cls, singles: "list[Results]") -> "Results":
        """Return the results of samples that ran one by one as those of one batch."""
        first = singles[0]
        axis = 1 if first.several else 0
        raw = {}
        for name, value in first.raw.items():
            rows = [s.raw[name] for s in singles]
            # An input that all samples share has a share of its own for each: they are stacked.
            one = value.ndim > axis and value.shape[axis] == 1
            raw[name] = np.concatenate(rows, axis) if one else np.stack(rows, axis)
        values = {n: np.concatenate([s.values[n] for s in singles]) for n in first.values}
        targets = [s.target for s in singles if s.target is not None]
        target = np.concatenate(targets, axis) if len(targets) == len(singles) else None
        apart = largest(s.difference for s in singles)
        overflown = largest(s.runtime_difference for s in singles)
        return cls(raw, values, target, first.several, apart, overflown)

    @classmethod
    def stacked(cls, rows: "list[Results]") -> "Results":
        """Return the results of several targets, computed one by one, with T in front."""
        first = rows[0]
        raw = {n: np.stack([row.raw[n] for row in rows]) for n in first.raw}
        target = np.stack([row.target for row in rows if row.target is not None])
        return cls(raw, first.values, target, several=True)


def largest(differences: Iterable[float | None]) -> float | None:
    """Return the largest difference; None where none was found."""
    return max((d for d in differences if d is not None), default=None)


def named(raw: dict[str, Array], prefix: str) -> dict[str, Array]:
    """Return what is filed under ``prefix``, by the rest of its name."""
    return {n.removeprefix(prefix): v for n, v in raw.items() if n.startswith(prefix)}
