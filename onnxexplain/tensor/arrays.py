"""The words on arrays: one text for NumPy, CuPy and any array-API library that judges it."""

from typing import Any

import array_api_compat

from onnxexplain.tensor.array_windows import ArrayWindows
from onnxexplain.tensor.namespace import Tensor

_WORDS = frozenset(
    (
        "abs exp log sqrt tanh sign sin cos sinh cosh pow maximum minimum where matmul "
        "permute_dims zeros_like ones_like expand_dims floor round equal logical_not logical_and "
        "logical_or"
    ).split()
)


class Arrays(ArrayWindows):
    """The namespace of one array library.

    Parameters
    ----------
    module
        ``numpy``, ``cupy`` or another array-API namespace.
    ties
        who wins where elements of a max pool's window are equal: the ``first`` in row-major order
        (torch's rule), or all alike (``share``).
    """

    def __init__(self, module: Any, ties: str = "first") -> None:
        self.module = array_api_compat.array_namespace(module.empty(0))
        self.ties = ties

    def __getattr__(self, word: str) -> Any:
        if word in _WORDS:
            return getattr(self.module, word)
        raise AttributeError(word)

    def max(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.max(x, axis=_axes(axis), keepdims=keepdims)

    def min(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.min(x, axis=_axes(axis), keepdims=keepdims)

    def mean(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.mean(x, axis=_axes(axis), keepdims=keepdims)

    def sum(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.sum(x, axis=_axes(axis), keepdims=keepdims, dtype=x.dtype)

    def prod(self, x: Tensor, /, *, axis: Any, keepdims: bool = False) -> Tensor:
        return self.module.prod(x, axis=_axes(axis), keepdims=keepdims, dtype=x.dtype)

    def cumulative_sum(
        self, x: Tensor, /, *, axis: int, exclusive: bool = False, reverse: bool = False
    ) -> Tensor:
        turned = self.module.flip(x, axis=axis) if reverse else x
        total = self.module.cumulative_sum(turned, axis=axis, dtype=x.dtype)
        total = total - turned if exclusive else total
        return self.module.flip(total, axis=axis) if reverse else total

    # ----- accounts -----

    def scale(self, g: Tensor, v: Tensor) -> Tensor:
        if isinstance(v, (int, float)) or bool(self.module.all(self.module.isfinite(v))):
            return g * v
        return g * self.module.where(g == 0, self.module.zeros_like(v), v)

    def dot(self, g: Tensor, v: Tensor) -> Tensor:
        m = self.module
        product = m.astype(self.scale(g, v), m.float64)
        return m.sum(m.reshape(product, (*(product.shape[:1] or (1,)), -1)), axis=1)

    def channel_dot(self, g: Tensor, v: Tensor) -> Tensor:
        return self.sum(self.scale(g, v), axis=1, keepdims=True)


def _axes(axis: Any) -> Any:
    return axis if isinstance(axis, int) else tuple(axis)
