"""The elements of a tensor that a walk has come to, and what the rules may ask of the graph."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxexplain.graph import Node
from onnxexplain.reverse import Step
from onnxexplain.tensor import Arrays

Array = np.ndarray[Any, Any]

ROOM = 1 << 22
"""So many numbers are gathered at once; a head of thousands of units would fill the memory."""

_NOWHERE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Marks:
    """Elements of one tensor, each once.

    ``at`` holds their places in row-major order, int64 [K], ascending. ``sign`` [K], int8, says
    what is looked for further down: 1 what makes the element large, -1 what makes it small, 0 where
    nothing moves it.
    """

    at: Array
    sign: Array

    @classmethod
    def of(cls, at: Array, sign: Array) -> "Marks":
        """Return elements in order, each once per sign."""
        codes = np.unique(at.astype(np.int64) * 3 + (sign.astype(np.int64) + 1))
        return cls(codes // 3, (codes % 3 - 1).astype(np.int8))

    @classmethod
    def all(cls, parts: Sequence["Marks"]) -> "Marks":
        """Return the elements of all parts."""
        if len(parts) == 1:
            return cls.of(parts[0].at, parts[0].sign)
        at, sign = [part.at for part in parts], [part.sign for part in parts]
        return cls.of(np.concatenate([*at, _NOWHERE]), np.concatenate([*sign, _NOWHERE]))

    def joined(self, other: "Marks | None") -> "Marks":
        """Return the elements of both."""
        return self if other is None else Marks.all((self, other))

    def where(self, kept: Any) -> "Marks":
        """Return some of the elements."""
        return Marks(self.at[kept], self.sign[kept])

    def parts(self, each: int) -> Iterator["Marks"]:
        """Yield the elements in parts, for rules that gather ``each`` numbers per element."""
        many = max(ROOM // max(each, 1), 1)
        for start in range(0, len(self.at), many):
            yield self.where(np.s_[start : start + many])

    def index(self, shape: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the places in a tensor of that shape as one array [K] per axis."""
        return np.unravel_index(self.at, shape)


@dataclass(frozen=True)
class Trail:
    """The graph and its values in the memory of the host: what a rule may ask for."""

    values: Mapping[str, Array]
    moving: frozenset[str]
    makers: Mapping[str, Node]
    depth: Mapping[str, int]
    """How many nodes lie between a tensor and the input, by the longest way."""
    channels_last: frozenset[str]
    averaged: frozenset[str]
    """The tensors between the last weights and a mean that is the score's own."""
    locate: str
    """Where in a convolution's window a fixation goes on."""
    keep: float
    """The part of what speaks for a dense unit that is followed, the strongest first."""
    xp: Arrays

    def positions(self, tensor: str) -> int:
        """Return how many positions a tensor has, 1 where it has none."""
        shape = self.values[tensor].shape
        if len(shape) < 3:
            return 1
        maker = self.makers.get(tensor)
        reduced = maker is not None and maker.op_type.startswith("Reduce")
        laid = maker.inputs[0] if maker is not None and reduced else tensor  # in its input's layout
        axis = len(shape) - 1 if laid in self.channels_last else 1
        return math.prod(map(int, shape[1:])) // max(int(shape[axis]), 1)


def taken(step: Step, slot: int = 0) -> Array:
    """Return what a node takes at ``slot``."""
    return np.asarray(step.inputs[slot])


def made(step: Step) -> Array:
    """Return what a node makes."""
    return np.asarray(step.outputs[0])


def side(values: Array) -> Array:
    """Return the sign that explains these values: -1 for those below zero, 1 for the others."""
    return np.where(values < 0, -1, 1).astype(np.int8)
