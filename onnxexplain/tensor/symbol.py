"""A symbol: what stands for a tensor while a graph is being written."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnxexplain.tensor.emit import Tape
    from onnxexplain.tensor.namespace import Window


@dataclass(frozen=True)
class Positive:
    """The symbol says where ``of`` is greater than zero."""

    of: "Symbol"


@dataclass(frozen=True)
class Scaled:
    """The symbol is ``of`` times one constant per channel, not yet written as a node."""

    of: "Symbol"
    by: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Routed:
    """The symbol is ``g`` sent to the maxima ``y`` of the windows of ``x``."""

    g: "Symbol"
    y: "Symbol"
    x: "Symbol"
    window: "Window"


@dataclass(frozen=True)
class Folded:
    """The symbol is ``of`` sent back through a mean over all positions: the same everywhere."""

    of: "Symbol"
    times: float


Origin = Positive | Scaled | Routed | Folded | None


class Symbol:
    """A tensor of known shape and dtype in a graph that is being written.

    ``value`` holds its elements where they are constant; ``origin`` tells how it came about, where
    that lets a later word be written in a cheaper form.
    """

    __array_priority__ = 1000  # a NumPy scalar on the left must not try to loop over a symbol
    __hash__ = object.__hash__

    def __init__(
        self,
        tape: "Tape",
        name: str | None,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        value: np.ndarray[Any, Any] | None = None,
        origin: Origin = None,
    ) -> None:
        self.tape = tape
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.value = value
        self.origin = origin
        self.finite = False
        """Whether it was checked to hold neither infinities nor NaN."""

    def __repr__(self) -> str:
        return f"<Symbol {self.name or 'unwritten'} {list(self.shape)} {self.dtype}>"

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __bool__(self) -> bool:
        raise TypeError("a symbol has no truth value: use xp.where instead of if")

    def __add__(self, other: Any) -> "Symbol":
        return self.tape.binary("Add", self, other)

    def __radd__(self, other: Any) -> "Symbol":
        return self.tape.binary("Add", other, self)

    def __sub__(self, other: Any) -> "Symbol":
        return self.tape.binary("Sub", self, other)

    def __rsub__(self, other: Any) -> "Symbol":
        return self.tape.binary("Sub", other, self)

    def __mul__(self, other: Any) -> "Symbol":
        return self.tape.binary("Mul", self, other)

    def __rmul__(self, other: Any) -> "Symbol":
        return self.tape.binary("Mul", self, other)

    def __truediv__(self, other: Any) -> "Symbol":
        return self.tape.binary("Div", self, other)

    def __rtruediv__(self, other: Any) -> "Symbol":
        return self.tape.binary("Div", other, self)

    def __neg__(self) -> "Symbol":
        return self.tape.unary("Neg", self)

    def __gt__(self, other: Any) -> "Symbol":
        return self.tape.compare("Greater", self, other)

    def __lt__(self, other: Any) -> "Symbol":
        return self.tape.compare("Less", self, other)

    def __ge__(self, other: Any) -> "Symbol":
        return self.tape.compare("GreaterOrEqual", self, other)

    def __le__(self, other: Any) -> "Symbol":
        return self.tape.compare("LessOrEqual", self, other)

    def __getitem__(self, key: Any) -> "Symbol":
        raise TypeError("a symbol is not indexed: use a verb of the namespace")
