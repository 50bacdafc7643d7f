"""What a rule may say: the array-API words it needs, and verbs that go by example.

A verb ends in ``_like`` where it takes its shape from another tensor, so that no rule reads one.
:class:`~onnxexplain.tensor.arrays.Arrays` says these words on NumPy and CuPy arrays,
:class:`~onnxexplain.tensor.emit.Tape` as ONNX nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Tensor = Any
"""A NumPy or CuPy array, or a symbol that stands for a tensor of an ONNX graph."""


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution or a pool, one entry per spatial axis (pads: begins, ends)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
    ) -> "Window":
        """Fill in what the standard leaves out: steps of one, no padding."""
        rank = len(kernel)
        ones = (1,) * rank
        return cls(
            tuple(kernel),
            tuple(strides or ones),
            tuple(dilations or ones),
            tuple(pads or (0,) * (2 * rank)),
        )

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """How many positions the window spans, per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def tiles(self) -> bool:
        """Whether windows lie side by side: no overlap, no gap, no padding."""
        return self.kernel == self.strides and not any(self.pads) and set(self.dilations) == {1}


class Namespace(Protocol):
    """The words."""

    # ----- the array API -----
    def abs(self, x: Tensor, /) -> Tensor: ...
    def exp(self, x: Tensor, /) -> Tensor: ...
    def log(self, x: Tensor, /) -> Tensor: ...
    def sqrt(self, x: Tensor, /) -> Tensor: ...
    def tanh(self, x: Tensor, /) -> Tensor: ...
    def sign(self, x: Tensor, /) -> Tensor: ...
    def sin(self, x: Tensor, /) -> Tensor: ...
    def cos(self, x: Tensor, /) -> Tensor: ...
    def sinh(self, x: Tensor, /) -> Tensor: ...
    def cosh(self, x: Tensor, /) -> Tensor: ...
    def pow(self, x: Tensor, y: Tensor, /) -> Tensor: ...
    def floor(self, x: Tensor, /) -> Tensor: ...
    def round(self, x: Tensor, /) -> Tensor: ...
    def equal(self, x: Tensor, y: Tensor, /) -> Tensor: ...
    def logical_not(self, x: Tensor, /) -> Tensor: ...
    def logical_and(self, x: Tensor, y: Tensor, /) -> Tensor: ...
    def logical_or(self, x: Tensor, y: Tensor, /) -> Tensor: ...
    def maximum(self, x: Tensor, y: Tensor, /) -> Tensor: ...
    def minimum(self, x: Tensor, y: Tensor, /) -> Tensor: ...
    def where(self, condition: Tensor, x: Tensor, y: Tensor, /) -> Tensor: ...
    def matmul(self, a: Tensor, b: Tensor, /) -> Tensor: ...
    def permute_dims(self, x: Tensor, /, axes: Sequence[int]) -> Tensor: ...
    def zeros_like(self, x: Tensor, /) -> Tensor: ...
    def ones_like(self, x: Tensor, /) -> Tensor: ...
    def expand_dims(self, x: Tensor, /, *, axis: int) -> Tensor: ...
    def sum(self, x: Tensor, /, *, axis: int | Sequence[int], keepdims: bool = False) -> Tensor: ...
    def max(self, x: Tensor, /, *, axis: int | Sequence[int], keepdims: bool = False) -> Tensor: ...
    def min(self, x: Tensor, /, *, axis: int | Sequence[int], keepdims: bool = False) -> Tensor: ...
    def mean(
        self, x: Tensor, /, *, axis: int | Sequence[int], keepdims: bool = False
    ) -> Tensor: ...

    def prod(
        self, x: Tensor, /, *, axis: int | Sequence[int], keepdims: bool = False
    ) -> Tensor: ...

    def cumulative_sum(
        self, x: Tensor, /, *, axis: int, exclusive: bool = False, reverse: bool = False
    ) -> Tensor:
        """Sums of ``x`` up to each element, itself left out where ``exclusive``."""

    # ----- given shapes and values (every shape is known: that of the data at hand) -----
    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """``x`` in another shape."""

    def broadcast_to(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """``x`` repeated to a shape."""

    def constant(self, values: Any, like: Tensor) -> Tensor:
        """Numbers (a number, or nested lists) as a tensor in the dtype of ``like``."""

    def indices(self, values: Any, like: Tensor) -> Tensor:
        """Whole numbers (nested lists) as an int64 tensor where ``like`` lives."""

    def to_int(self, x: Tensor) -> Tensor:
        """``x``, which holds whole numbers, as int64."""

    # ----- slices, picking and putting back -----
    def cut(self, x: Tensor, cuts: Sequence[slice]) -> Tensor:
        """The part of ``x`` that one Python slice per axis cuts out (steps may be negative)."""

    def uncut_like(self, g: Tensor, x: Tensor, cuts: Sequence[slice]) -> Tensor:
        """Undo :meth:`cut`: ``g`` where it was cut out of ``x``, zero elsewhere."""

    def pick(self, x: Tensor, index: Tensor) -> Tensor:
        """The elements of ``x`` at flat (row-major) indices of any shape, none negative."""

    def put_like(self, g: Tensor, index: Tensor, x: Tensor) -> Tensor:
        """Undo :meth:`pick`: add each element of ``g`` at its flat index into zeros like ``x``."""

    def take(self, x: Tensor, index: Tensor, axis: int) -> Tensor:
        """Slices of ``x`` along ``axis``, as ONNX's Gather (negative indices from the end)."""

    def untake_like(self, g: Tensor, index: Tensor, x: Tensor, axis: int) -> Tensor:
        """Undo :meth:`take`: slices taken more than once add up."""

    # ----- verbs by example -----
    def reshape_like(self, g: Tensor, x: Tensor) -> Tensor:
        """``g`` in the shape of ``x``."""

    def sum_like(self, g: Tensor, x: Tensor) -> Tensor:
        """Undo broadcasting: sum ``g`` over the axes along which ``x`` was repeated."""

    def expand_like(self, g: Tensor, x: Tensor) -> Tensor:
        """Repeat ``g`` to the shape of ``x``."""

    def spread_like(
        self, g: Tensor, x: Tensor, axes: Sequence[int] | None, keepdims: bool
    ) -> Tensor:
        """Undo a sum over ``axes`` (all where None): give every element what its sum got."""

    def count(self, x: Tensor, axes: Sequence[int] | None) -> float:
        """How many elements of ``x`` a sum over ``axes`` (all where None) adds up."""

    def channel(self, v: Tensor, x: Tensor) -> Tensor:
        """The vector ``v`` shaped to meet axis 1 of ``x``."""

    def split_like(self, g: Tensor, parts: Sequence[Tensor], axis: int) -> tuple[Tensor, ...]:
        """Cut ``g`` along ``axis`` into pieces as long as ``parts``."""

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Join ``parts`` along ``axis``."""

    def unpad_like(self, g: Tensor, x: Tensor, pads: Sequence[int], axes: Sequence[int]) -> Tensor:
        """Undo constant padding: the part of ``g`` that ``x`` filled."""

    def pad(self, x: Tensor, pads: Sequence[int], axes: Sequence[int]) -> Tensor:
        """``x`` with zeros around it (begins, then ends; negative ones crop)."""

    def resize_like(self, m: Tensor, x: Tensor) -> Tensor:
        """A map resized to the positions of ``x``, linearly between half-pixel centres."""

    def kth_largest(self, x: Tensor, k: int, axis: int) -> Tensor:
        """The k-th largest value along ``axis``, which is kept with length 1."""

    def cast_like(self, v: Tensor, x: Tensor) -> Tensor:
        """``v`` in the dtype of ``x``."""

    def integers(self, x: Tensor) -> list[int]:
        """The values of a constant tensor of integers: axes, pads, shapes."""

    def floats(self, x: Tensor) -> list[float]:
        """The values of a constant tensor of floats: the scales of a resize."""

    # ----- windows -----
    def conv(
        self, x: Tensor, w: Tensor, b: Tensor | None, window: Window, group: int = 1
    ) -> Tensor:
        """Correlate ``x`` [N,C,...] with ``w`` [O,C/group,...]."""

    def conv_transpose_like(
        self, g: Tensor, w: Tensor, x: Tensor, window: Window, group: int = 1
    ) -> Tensor:
        """Undo :meth:`conv`: from the shape of its output to the shape of ``x``."""

    def max_pool_route(self, g: Tensor, y: Tensor, x: Tensor, window: Window) -> Tensor:
        """Send ``g`` to the maximum ``y`` of every window of ``x``; windows that overlap add up."""

    def average_pool_like(
        self, g: Tensor, x: Tensor, window: Window, count_include_pad: bool
    ) -> Tensor:
        """Give every element of a window of ``x`` an equal part of what its mean got."""

    # ----- accounts -----
    def scale(self, g: Tensor, v: Tensor) -> Tensor:
        """``g * v``, and 0 where ``g`` is 0 whatever ``v`` is (it may be infinite)."""

    def dot(self, g: Tensor, v: Tensor) -> Tensor:
        """Sum of ``g * v`` per sample, in float64: [N]."""

    def channel_dot(self, g: Tensor, v: Tensor) -> Tensor:
        """Sum of ``g * v`` over axis 1, which is kept with length 1."""
