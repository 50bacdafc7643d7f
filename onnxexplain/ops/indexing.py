"""Operators that pick elements by index, or put them there."""

import math

from onnxexplain.ops._operator import none, operator

# ----- Flat places: every index is first made a row-major one -----


def _strides(shape):
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _grid(xp, like, shape, axis):
    """0, 1, 2, ... along one axis of a shape, to be broadcast over the others."""
    column = [n if a == axis else 1 for a, n in enumerate(shape)]
    return xp.reshape(xp.indices(list(range(shape[axis])), like), column)


def _positive(xp, index, many):
    """Indices from the end as indices from the start."""
    return xp.where(index < 0, index + many, index)


def _places_along(xp, x, index, axis):
    """The flat place in ``x`` that each entry of ``index`` means, which runs along ``axis``."""
    axis, strides = axis % x.ndim, _strides(x.shape)
    place = _positive(xp, index, x.shape[axis]) * strides[axis]
    for a in range(x.ndim):
        if a != axis and index.shape[a] > 1:
            place = place + _grid(xp, index, index.shape, a) * strides[a]
    return place


def _places_nd(xp, x, index, batch_dims=0):
    """The flat places of the slices of ``x`` that the last axis of ``index`` names."""
    deep, strides = index.shape[-1], _strides(x.shape)
    lead, named = index.shape[:-1], batch_dims + deep
    rest = x.shape[named:]
    place = xp.indices(0, index)
    for a in range(deep):
        one = xp.cut(index, (*(slice(None),) * len(lead), slice(a, a + 1)))
        axis = batch_dims + a
        place = place + _positive(xp, xp.reshape(one, lead), x.shape[axis]) * strides[axis]
    for a in range(batch_dims):
        place = place + _grid(xp, index, lead, a) * strides[a]
    place = xp.reshape(place, (*lead, *(1,) * len(rest)))
    for a in range(len(rest)):
        column = (*(1,) * len(lead), *(n if b == a else 1 for b, n in enumerate(rest)))
        inner = xp.reshape(xp.indices(list(range(rest[a])), index), column)
        place = place + inner * strides[named + a]
    return xp.broadcast_to(place, (*lead, *rest))


# ----- Picked -----


@operator("Gather", role="routing", fixed=(1,))
def gather(xp, g, y, x, indices, *, axis=0):
    return (xp.untake_like(g, indices, x, axis), None)


@operator("GatherElements", role="routing", fixed=(1,))
def gather_elements(xp, g, y, x, indices, *, axis=0):
    return (xp.put_like(g, _places_along(xp, x, indices, axis), x), None)


@operator("GatherND", role="routing", fixed=(1,))
def gather_nd(xp, g, y, x, indices, *, batch_dims=0):
    return (xp.put_like(g, _places_nd(xp, x, indices, batch_dims), x), None)


@operator("TopK", role="routing", fixed=(1,))
def top_k(xp, g, y, x, k, *, axis=-1, largest=1, sorted=1):
    places = _places_along(xp, x, y[1], axis)
    return (None if g[0] is None else xp.put_like(g[0], places, x), None)


@operator("ReverseSequence", role="routing", fixed=(1,))
def reverse_sequence(xp, g, y, x, sequence_lens, *, batch_axis=1, time_axis=0):
    lengths = [1] * x.ndim
    lengths[batch_axis] = x.shape[batch_axis]
    length = xp.reshape(sequence_lens, lengths)
    step = _grid(xp, sequence_lens, x.shape, time_axis)
    turned = xp.where(step < length, length - 1 - step, step)
    index = xp.broadcast_to(turned, x.shape)
    return (xp.pick(g, _places_along(xp, x, index, time_axis)), None)


@operator("OneHot", role="routing", fixed=(0, 1))
def one_hot(xp, g, y, indices, depth, values, *, axis=-1):
    axis, many = axis % y.ndim, y.shape[axis % y.ndim]
    where = xp.expand_dims(_positive(xp, xp.to_int(indices), many), axis=axis)
    lit = xp.equal(where, _grid(xp, where, y.shape, axis))
    every = list(range(y.ndim))
    on = xp.sum(xp.where(lit, g, 0.0), axis=every)
    off = xp.sum(xp.where(lit, 0.0, g), axis=every)
    return (None, None, xp.concat([xp.reshape(off, (1,)), xp.reshape(on, (1,))], 0))


# ----- Put: what was there before gives way, adds up, multiplies, or competes -----


def _scattered(xp, g, y, x, updates, places, reduction):
    """The derivatives of ``x`` with ``updates`` put at flat ``places``."""
    arrived, there = xp.pick(g, places), xp.pick(y, places)
    if reduction == "add":
        return g, arrived
    if reduction == "none":
        covered = xp.put_like(xp.ones_like(arrived) + xp.zeros_like(arrived), places, x)
        return xp.where(covered > 0, 0.0, g), arrived
    if reduction == "mul":
        # A factor of 0 counts as flat: its derivative would need the product of all the others.
        to_x = g * xp.where(xp.equal(x, 0.0), 0.0, y / xp.where(xp.equal(x, 0.0), 1.0, x))
        safe = xp.where(xp.equal(updates, 0.0), 1.0, updates)
        return to_x, arrived * xp.where(xp.equal(updates, 0.0), 0.0, there / safe)
    # The extreme: what was there before wins a tie, updates that tie share.
    kept = xp.equal(x, y)
    lost = xp.equal(updates, there)
    ones = xp.where(lost, xp.ones_like(there), 0.0)
    shared = xp.maximum(xp.pick(xp.put_like(ones, places, x), places), 1.0)
    gone = xp.pick(xp.where(kept, 0.0, g), places)
    return xp.where(kept, g, 0.0), xp.where(lost, gone / shared, 0.0)


def _scatter_offset(places_of):
    """What constant data, or constant updates, add."""

    def offset(xp, y, x, indices, updates, *, varies, reduction="none", **said):
        moves = [varies[0], varies[2]]
        if all(moves) and reduction in ("none", "add", "max", "min"):
            return None
        to_x, to_updates = _scattered(
            xp, xp.ones_like(y) + xp.zeros_like(y), y, x, updates,
            places_of(xp, x, indices, **said), reduction,
        )  # fmt: skip
        held = y
        if moves[0]:
            held = held - to_x * x
        if moves[1]:
            share = xp.scale(to_updates, updates)
            held = held - xp.put_like(share, places_of(xp, x, indices, **said), x)
        return held

    return offset


def _along(xp, x, indices, axis=0):
    return _places_along(xp, x, indices, axis)


@operator("ScatterElements", role="routing", offset=_scatter_offset(_along), fixed=(1,))
def scatter_elements(xp, g, y, x, indices, updates, *, axis=0, reduction="none"):
    to_x, to_updates = _scattered(xp, g, y, x, updates, _along(xp, x, indices, axis), reduction)
    return (to_x, None, to_updates)


@operator("ScatterND", role="routing", offset=_scatter_offset(_places_nd), fixed=(1,))
def scatter_nd(xp, g, y, x, indices, updates, *, reduction="none"):
    to_x, to_updates = _scattered(xp, g, y, x, updates, _places_nd(xp, x, indices), reduction)
    return (to_x, None, to_updates)


def _cache_places(xp, x, update, write_indices, axis, mode):
    axis, many = axis % x.ndim, x.shape[axis % x.ndim]
    index = _grid(xp, x, update.shape, axis)
    if write_indices is not None:
        batch = (update.shape[0], *(1,) * (x.ndim - 1))
        index = index + xp.reshape(write_indices, batch)
    if mode == "circular":
        index = xp.where(index < many, index, index - many)
    return _places_along(xp, x, xp.broadcast_to(index, update.shape), axis)


def _cache_offset(xp, y, x, update, write_indices=None, *, varies, axis=-2, mode="linear"):
    if varies[0] and varies[1]:
        return None
    to_x, to_update, _ = tensor_scatter(
        xp, xp.ones_like(y) + xp.zeros_like(y), y, x, update, write_indices, axis=axis, mode=mode
    )
    if varies[0]:
        return y - to_x * x
    places = _cache_places(xp, x, update, write_indices, axis, mode)
    return y - xp.put_like(to_update * update, places, x)


@operator("TensorScatter", role="routing", offset=_cache_offset, fixed=(2,))
def tensor_scatter(xp, g, y, x, update, write_indices=None, *, axis=-2, mode="linear"):
    places = _cache_places(xp, x, update, write_indices, axis, mode)
    to_x, to_update = _scattered(xp, g, y, x, update, places, "none")
    return (to_x, to_update, None)


# ----- Indices, counts and choices: no derivative -----


def _stop(xp, g, y, *inputs, **_):
    return (None,) * len(inputs)


for _name in ("NonZero", "Unique", "NonMaxSuppression", "TfIdfVectorizer", "Bernoulli"):
    operator(_name, role="stop", offset=none)(_stop)
