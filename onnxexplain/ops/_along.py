"""A matrix applied along one axis of a tensor."""

import math
from collections.abc import Sequence

from onnxexplain.tensor import Namespace, Tensor


def along(xp: Namespace, x: Tensor, axis: int, weights: Sequence[Sequence[float]]) -> Tensor:
    """Return ``x`` with the positions along ``axis`` mixed: one row of weights per new position."""
    lead, trail = x.shape[:axis], x.shape[axis + 1 :]
    outer, inner = math.prod(lead), math.prod(trail)
    if inner == 1:
        flat = xp.reshape(x, (outer, x.shape[axis]))
        mixed = xp.matmul(flat, xp.constant(turned(weights), x))
    else:
        columns = xp.reshape(x, (outer, x.shape[axis], inner))
        mixed = xp.matmul(xp.constant(weights, x), columns)
    return xp.reshape(mixed, (*lead, len(weights), *trail))


def turned(weights: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the transposed matrix."""
    return [list(column) for column in zip(*weights, strict=True)]
