"""Sequences and optionals: plumbing, resolved into the tensors that run through it."""

from collections.abc import Sequence

import numpy as np

from onnxexplain.graph.spelled._spelling import Scope, spelling

# ----- What makes a sequence or an optional stays, until nobody reads it any more -----


@spelling("SequenceEmpty")
def empty(scope: Scope) -> bool:
    """A sequence of nothing."""
    return _known(scope, ())


@spelling("SequenceConstruct")
def construct(scope: Scope) -> bool:
    """A sequence of tensors."""
    return _known(scope, scope.node.inputs)


@spelling("SequenceInsert")
def insert(scope: Scope) -> bool:
    """One tensor more: at a place, or at the end."""
    held, (_, tensor, *place) = scope.sequences.get(scope.node.inputs[0]), scope.node.inputs
    if held is None:
        return False
    at = _place(scope, place, len(held), default=len(held), ends=True)
    return False if at is None else _known(scope, (*held[:at], tensor, *held[at:]))


@spelling("SequenceErase")
def erase(scope: Scope) -> bool:
    """One tensor less: at a place, or at the end."""
    held, place = scope.sequences.get(scope.node.inputs[0]), scope.node.inputs[1:]
    if held is None:
        return False
    at = _place(scope, place, len(held), default=len(held) - 1)
    return False if at is None else _known(scope, (*held[:at], *held[at + 1 :]))


@spelling("Identity")
def identity(scope: Scope) -> bool:
    """The same sequence, or the same optional; of tensors it stays what it is."""
    (x,), (y,) = scope.node.inputs, scope.node.outputs
    if x in scope.sequences:
        return _known(scope, scope.sequences[x])
    if x in scope.optionals:
        scope.optionals[y] = scope.optionals[x]
    return False


@spelling("Optional")
def optional(scope: Scope) -> bool:
    """A tensor or a sequence, or nothing."""
    scope.optionals[scope.node.outputs[0]] = next(iter(scope.node.inputs), "")
    return False


def _known(scope: Scope, tensors: Sequence[str]) -> bool:
    scope.sequences[scope.node.outputs[0]] = tuple(tensors)
    return False


# ----- What takes tensors out again is replaced -----


@spelling("SequenceAt")
def at(scope: Scope) -> bool:
    """The tensor at a place."""
    held = scope.sequences.get(scope.node.inputs[0])
    if held is None:
        return False
    place = _place(scope, scope.node.inputs[1:], len(held), default=0)
    if place is None:
        return False
    scope.write("Identity", held[place], to=scope.node.outputs[0])
    return True


@spelling("SequenceLength")
def length(scope: Scope) -> bool:
    """How many tensors it holds."""
    held = scope.sequences.get(scope.node.inputs[0])
    if held is None:
        return False
    scope.write("Identity", scope.constant(np.array(len(held))), to=scope.node.outputs[0])
    return True


@spelling("ConcatFromSequence")
def concat(scope: Scope) -> bool:
    """All its tensors side by side, along an axis they have or along a new one."""
    held, said = scope.sequences.get(scope.node.inputs[0]), scope.node.attributes
    if held is None:
        return False
    if not held:
        return scope.refuse("which joins an empty sequence")
    if said.get("new_axis"):
        where = scope.constant(np.array([said["axis"]]))
        held = tuple(scope.write("Unsqueeze", tensor, where) for tensor in held)
    scope.write("Concat", *held, to=scope.node.outputs[0], axis=said["axis"])
    return True


@spelling("SplitToSequence")
def split(scope: Scope) -> bool:
    """The parts of a tensor: of given sizes, of one size (the last may be smaller), or slices."""
    (x, *given), said = scope.node.inputs, scope.node.attributes
    axis, shape = said.get("axis", 0), scope.shape(scope.node.inputs[0])
    asked = scope.value(given[0]) if given else np.array(1)
    if shape is None or asked is None:
        return False
    many = shape[axis]
    sizes = (
        [min(int(asked), many - i) for i in range(0, many, int(asked))] if not asked.ndim else []
    )
    each = scope.constant(np.array(sizes or asked, np.int64))
    parts = scope.write_all("Split", x, each, to=[""] * (len(sizes) or len(asked)), axis=axis)
    if not given and not said.get("keepdims", 1):
        where = scope.constant(np.array([axis]))
        parts = [scope.write("Squeeze", part, where) for part in parts]
    scope.write("SequenceConstruct", *parts, to=scope.node.outputs[0])
    _known(scope, parts)
    return True


@spelling("OptionalHasElement")
def has_element(scope: Scope) -> bool:
    """Whether there is something in it; a tensor or a sequence given in its place counts."""
    x = next(iter(scope.node.inputs), "")
    found = scope.optionals.get(x, x)
    if x and x not in scope.optionals and not _is_plain(scope, x):
        return False
    scope.write("Identity", scope.constant(np.array(bool(found))), to=scope.node.outputs[0])
    return True


@spelling("OptionalGetElement")
def get_element(scope: Scope) -> bool:
    """What is in it."""
    (x,), (y,) = scope.node.inputs, scope.node.outputs
    found = scope.optionals.get(x, x)
    if x not in scope.optionals and not _is_plain(scope, x):
        return False
    if not found:
        return scope.refuse("which takes something out of an empty optional")
    scope.write("Identity", found, to=y)
    if found in scope.sequences:
        scope.sequences[y] = scope.sequences[found]
    return True


def _is_plain(scope: Scope, x: str) -> bool:
    return x in scope.sequences or scope.shape(x) is not None or scope.is_float(x)


def _place(
    scope: Scope, given: Sequence[str], many: int, *, default: int, ends: bool = False
) -> int | None:
    """Return a place among so many tensors, counted from the start; None where it is not known."""
    if not any(given):
        return default
    value = scope.value(given[0])
    told = scope.ask("whose position depends on the data") if value is None else value.max()
    if told is None:
        return None
    place = int(told)
    if not -many <= place < many + ends:
        scope.refuse(f"whose position {place} is outside a sequence of {many}")
        return None
    return place + many if place < 0 else place
