"""Down through what works on each element: sums, products, normalisation, activations."""

from collections.abc import Sequence

import numpy as np

from onnxexplain.methods.fixations.marks import Array, Marks, Trail, made, side, taken
from onnxexplain.reverse import Step

_FALLING = frozenset({"Neg", "Reciprocal", "Acos"})
_SCALED_LAST = frozenset({"LayerNormalization", "RMSNormalization"})

# ----- One input -----


def passed(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Stay at the element: an activation or a normalisation takes nothing from its neighbours."""
    if step.node.op_type in _FALLING:
        return {0: Marks.of(marks.at, -marks.sign)}
    if step.node.op_type == "Abs":
        return {0: Marks.of(marks.at, marks.sign * side(taken(step).ravel()[marks.at]))}
    return {0: marks}


def normalised(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Stay at the element; a negative scale turns what is looked for round.

    For BatchNormalization the same as folding the scale into the weights of the convolution before.
    """
    if len(step.inputs) < 2:
        return {0: marks}
    scale, shape = taken(step, 1), taken(step).shape
    at = marks.index(shape)
    if step.node.op_type in _SCALED_LAST:
        place = _place(scale.shape, at)
    else:  # a number per channel, or per group of them
        place = at[1] * scale.size // shape[1]
    return {0: Marks.of(marks.at, marks.sign * np.sign(scale.ravel()[place]))}


# ----- Several -----


def larger(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Follow the larger addend at each element; a constant is none.

    Equal ones: the skip connection, which is the addend that fewer nodes lead to; else the first.
    """
    slots = _by_depth(step, trail)
    at = marks.index(made(step).shape)
    places = [_place(taken(step, slot).shape, at) for slot in slots]
    signs = [-marks.sign if _subtracted(step, slot) else marks.sign for slot in slots]
    values = [
        taken(step, slot).ravel()[place] * sign
        for slot, place, sign in zip(slots, places, signs, strict=True)
    ]
    winner = np.argmax(np.stack(values), axis=0)
    return {
        slot: Marks.of(places[i][winner == i], signs[i][winner == i])
        for i, slot in enumerate(slots)
        if (winner == i).any()
    }


def _subtracted(step: Step, slot: int) -> bool:
    return step.node.op_type == "Sub" and slot == 1


def gated(step: Step, marks: Marks, trail: Trail) -> dict[int, Marks]:
    """Follow the map through a product, not what scales it.

    A constant scales; of two tensors the smaller one does (the gate of squeeze-and-excitation), of
    two alike the one that more nodes lead to (the sigmoid of swish). A quotient's numerator is the
    map. Its factor's sign at the element says whether what is looked for turns round.
    """
    slots = sorted(_by_depth(step, trail), key=lambda slot: -taken(step, slot).size)
    divided = step.node.op_type == "Div"
    slot = 0 if divided and step.varies[0] else slots[0]
    at = marks.index(made(step).shape)
    other = taken(step, 1 - slot)
    factor = np.sign(other.ravel()[_place(other.shape, at)])
    if divided and slot == 1:  # it shrinks as its denominator grows
        factor = -factor
    return {slot: Marks.of(_place(taken(step, slot).shape, at), marks.sign * factor)}


def _by_depth(step: Step, trail: Trail) -> list[int]:
    """The slots that move, those that fewer nodes lead to first."""
    moving = [slot for slot, moves in enumerate(step.varies) if moves]
    return sorted(moving, key=lambda slot: trail.depth.get(step.node.inputs[slot], 0))


def _place(shape: Sequence[int], at: Sequence[Array]) -> Array:
    """Return the places in an operand of elements of the result; a repeated axis is read at 0."""
    place = np.zeros(len(at[0]), np.int64)
    for n, along in zip(shape, at[len(at) - len(shape) :], strict=True):
        place = place * n + (0 if n == 1 else along)
    return place
