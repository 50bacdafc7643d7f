"""Down through what multiplies by weights: the largest contributions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxexplain.errors import MethodError
from onnxexplain.methods.fixations.marks import Array, Marks, Trail, made, side, taken
from onnxexplain.methods.fixations.windows import places
from onnxexplain.reverse import Step
from onnxexplain.tensor import Window

_KEEPING = frozenset("routing activation normalisation sum product".split())
"""Roles of nodes that, where one input varies, keep each element at its place."""

# ----- Convolution -----


def convolution(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Take the channel whose window contributes most, and in it one position.

    As the last weights before a mean it is a dense layer of the channels' means, and hands on as
    one: to all channels that speak for it, each at the window where it does so most.
    """
    _check(step)
    x, w = taken(step), taken(step, 1)
    a = step.node.attributes
    kernel = a.get("kernel_shape") or w.shape[2:]
    window = Window.of(kernel, a.get("strides"), a.get("dilations"), a.get("pads"))
    per_group, inner = w.shape[0] // a.get("group", 1), w.shape[1]
    planes, kernels = x.reshape(*x.shape[:2], -1), w.reshape(*w.shape[:2], -1)
    middle = -_off_centre(window)
    dense = step.node.outputs[0] in trail.averaged
    found = []
    for part in [marks] if dense else marks.parts(math.prod(w.shape[1:])):
        n, o, *at = part.index(made(step).shape)
        place, inside = places(at, window, x.shape[2:])
        first = o // per_group * inner
        channels = first[:, None] + np.arange(inner)
        seen = planes[n[:, None, None], channels[:, :, None], place[:, None, :]]
        given = np.where(inside[:, None], seen * kernels[o], 0) * part.sign[:, None, None]
        sums = given.sum(axis=-1, dtype=np.float64)
        unit = np.stack([n, o, part.sign])
        row, best = _as_dense(sums, unit, trail.keep) if dense else _strongest(sums)
        wanted = {"contribution": given[row, best], "activation": seen[row, best]}
        tap = np.where(inside[row], wanted.get(trail.locate, middle), -np.inf).argmax(axis=1)
        spot = (n[row], first[row] + best, place[row, tap])
        went = Marks(np.ravel_multi_index(spot, planes.shape), side(planes[spot]))
        found.append(went.where(inside[row].any(axis=1)))  # padding alone is nothing to look at
    return {0: Marks.all(found)}


def _strongest(sums: Array) -> tuple[Array, Array]:
    """Every mark with the channel that contributes most to it."""
    return np.arange(len(sums)), sums.argmax(axis=1)


def _as_dense(sums: Array, unit: Array, keep: float) -> tuple[Array, Array]:
    """Every channel that speaks for a unit, with the mark of that unit it does most for."""
    rows, channels = [], []
    which = np.unique(unit, axis=1, return_inverse=True)[1].ravel()
    for one in range(which.max(initial=-1) + 1):
        own = np.flatnonzero(which == one)
        chosen = np.flatnonzero(_speaking(sums[own].sum(axis=0)[None], keep))
        rows.append(own[sums[own].argmax(axis=0)[chosen]])
        channels.append(chosen)
    return np.concatenate(rows), np.concatenate(channels)


def _check(step: Step) -> None:
    """Refuse weights that depend on the input."""
    if not any(step.varies[:2]) or sum(step.varies) != 1:
        raise MethodError(
            f"cnn-fixations: {step.node} has weights that depend on the input; "
            "take another method, or explain a tensor before it with output="
        )


def _off_centre(window: Window) -> Array:
    """How far each place of a window lies from its centre, squared: [taps]."""
    taps = np.indices(window.kernel).reshape(window.rank, -1)
    middle = (np.asarray(window.kernel)[:, None] - 1) / 2
    reach = np.asarray(window.dilations)[:, None]
    return np.asarray((((taps - middle) * reach) ** 2).sum(axis=0))


# ----- Matrix products -----


def product(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Take every positive contribution, or the largest where there is none.

    Where the features were flattened out of a map, take the largest alone: it names a position.
    """
    _check(step)
    slot = step.varies.index(True)
    a = step.node.attributes
    left = _Operand.of(taken(step), bool(a.get("transA", 0)))
    right = _Operand.of(taken(step, 1), not a.get("transB", 0))
    batch = np.broadcast_shapes(left.values.shape[:-2], right.values.shape[:-2])
    shape = (*batch, left.values.shape[-2], right.values.shape[-2])
    alone = slot == 0 and not a.get("transA", 0) and _flattened(step, trail)
    moving = (left, right)[slot]
    factor = np.sign(a.get("alpha", 1.0)) * marks.sign
    found = []
    for part in Marks(marks.at, factor).parts(left.values.shape[-1]):
        *outer, i, j = part.index(shape)
        rows = left.row(outer, i), right.row(outer, j)
        given = left.values[rows[0]] * right.values[rows[1]] * part.sign[:, None]
        mark, inner = _strongest(given) if alone else np.nonzero(_speaking(given, trail.keep))
        spot = (*(index[mark] for index in rows[slot]), inner)
        found.append(Marks(moving.place(spot), side(moving.values[spot])))
    return {slot: Marks.all(found)}


def _speaking(given: Array, keep: float) -> Array:
    """Which contributions [K, J] are positive, or the largest where none is.

    Of them the strongest that together make up the part ``keep``, each row for itself.
    """
    chosen = given > 0
    if keep < 1:
        order = np.argsort(-given, axis=1, kind="stable")
        falling = np.take_along_axis(np.where(chosen, given, 0), order, axis=1).astype(np.float64)
        before = np.cumsum(falling, axis=1) - falling
        enough = before < keep * falling.sum(axis=1, keepdims=True)
        np.put_along_axis(chosen, order, enough & (falling > 0), axis=1)
    none = ~chosen.any(axis=1)
    chosen[none, given[none].argmax(axis=1)] = True
    return np.asarray(chosen)


@dataclass(frozen=True)
class _Operand:
    """A factor, its rows the vectors that are multiplied: the axis summed over is the last."""

    stored: Array
    values: Array
    turned: bool

    @classmethod
    def of(cls, x: Array, turned: bool) -> "_Operand":
        """Bring a factor into that form; a vector is one row."""
        turned = turned and x.ndim > 1
        return cls(x, np.swapaxes(x, -1, -2) if turned else np.atleast_2d(x), turned)

    def row(self, outer: Sequence[Array], i: Array) -> tuple[Array, ...]:
        """Return the index of row ``i``; an axis that was repeated is read at 0."""
        lead = self.values.shape[:-2]
        kept = outer[len(outer) - len(lead) :]
        return (*(np.where(n == 1, 0, at) for n, at in zip(lead, kept, strict=True)), i)

    def place(self, spot: tuple[Array, ...]) -> Array:
        """Return the places of elements in the tensor as it is stored."""
        *lead, i, k = spot
        own = (*lead, k, i) if self.turned else (*lead, i, k)
        return np.ravel_multi_index(own[-self.stored.ndim :], self.stored.shape)


def _flattened(step: Step, trail: Trail) -> bool:
    """Whether the features a product mixes are all the places of one map."""
    tensor = step.node.inputs[0]
    many = trail.values[tensor].shape[-1]
    while True:
        shape = trail.values[tensor].shape
        if len(shape) > 2:
            return trail.positions(tensor) > 1 and many == math.prod(shape[1:])
        node = trail.makers.get(tensor)
        if node is None:
            return False
        above = Step.at(trail.xp, node, trail.values, trail.moving)
        if above.operator.role not in _KEEPING or sum(above.varies) != 1:
            return False
        tensor = node.inputs[above.varies.index(True)]
