"""Down through pools and reductions: to the winner, or to the strongest of what was averaged."""

import math
from collections.abc import Sequence

import numpy as np

from onnxexplain.methods.fixations.marks import Array, Marks, Trail, made, taken
from onnxexplain.methods.fixations.windows import places
from onnxexplain.reverse import Step
from onnxexplain.tensor import Window


def window(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Take the largest activation of a max or average pool's window, in the same channel."""
    x = taken(step)
    a = step.node.attributes
    shape = Window.of(a["kernel_shape"], a.get("strides"), a.get("dilations"), a.get("pads"))
    planes = x.reshape(*x.shape[:2], -1)
    found = []
    for part in marks.parts(math.prod(shape.kernel)):
        n, c, *at = part.index(made(step).shape)
        place, inside = places(at, shape, x.shape[2:])
        mark, tap = _strongest(step, planes[n[:, None], c[:, None], place], inside, part, trail)
        at_planes = np.ravel_multi_index((n[mark], c[mark], place[mark, tap]), planes.shape)
        found.append(Marks(at_planes, part.sign[mark]))
    return {0: Marks.all(found)}


def whole(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Take the largest activation of all positions."""
    return _over(step, marks, range(2, taken(step).ndim), trail)


def reduced(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Take the largest element of those that were reduced to one."""
    axes = [int(axis) for axis in taken(step, 1).ravel()] if len(step.inputs) > 1 else []
    if not axes and step.node.attributes.get("noop_with_empty_axes", 0):
        return {0: marks}
    return _over(step, marks, axes or range(taken(step).ndim), trail)


def _over(step: Step, marks: Marks, axes: Sequence[int], trail: Trail) -> dict[int, Marks]:
    x = taken(step)
    gone = sorted(axis % x.ndim for axis in axes)
    kept = [axis for axis in range(x.ndim) if axis not in gone]
    ordered = x.transpose(*kept, *gone)
    outer, inner = ordered.shape[: len(kept)], ordered.shape[len(kept) :]
    rows = np.arange(math.prod(outer))
    found = []
    for part in marks.parts(math.prod(inner)):
        row = np.unravel_index(rows[part.at], outer) if kept else ()
        seen = ordered[row] if kept else ordered[None]
        seen = seen.reshape(len(part.at), -1)
        mark, best = _strongest(step, seen, np.ones(seen.shape, bool), part, trail)
        spot = (*(along[mark] for along in row), *np.unravel_index(best, inner))
        own = [spot[[*kept, *gone].index(axis)] for axis in range(x.ndim)]
        found.append(Marks(np.ravel_multi_index(own, x.shape), part.sign[mark]))
    return {0: Marks.all(found)}


def _strongest(
    step: Step, seen: Array, inside: Array, marks: Marks, trail: Trail
) -> tuple[Array, Array]:
    """Choose among what each mark's window sees, [K, taps].

    A maximum has its winner. What makes a mean small is its smallest element. Where a mean stands
    behind the last weights all that count are taken, and the weights choose among them.

    Returns
    -------
    mark, tap : ndarray
        the choices, as pairs.
    """
    most = "Max" in step.node.op_type
    strength = np.where(inside, seen if most else seen * marks.sign[:, None], -np.inf)
    chosen = inside & (strength != 0)
    if most or step.node.inputs[0] not in trail.averaged:
        chosen[:] = False
    none = ~chosen.any(axis=1)
    chosen[none, strength[none].argmax(axis=1)] = True
    chosen[~inside.any(axis=1)] = False  # a window over padding alone sees nothing
    mark, tap = np.nonzero(chosen)
    return mark, tap
