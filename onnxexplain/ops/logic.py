"""Choices and comparisons: a choice hands on to what was chosen, a comparison to nothing."""

from onnxexplain.ops._operator import none, operator

# ----- Chosen -----


def _where_offset(xp, y, condition, x, z, *, varies):
    if varies[1] and varies[2]:
        return None
    if varies[1]:
        return xp.where(condition, xp.zeros_like(y), z)
    return xp.where(condition, x, xp.zeros_like(y))


@operator("Where", role="routing", offset=_where_offset, fixed=(0,))
def where(xp, g, y, condition, x, z):
    return (
        None,
        xp.sum_like(xp.where(condition, g, 0.0), x),
        xp.sum_like(xp.where(condition, 0.0, g), z),
    )


@operator("Trilu", role="routing", fixed=(1,))
def trilu(xp, g, y, x, k=None, *, upper=1):
    shift = 0 if k is None else xp.integers(k)[0]
    rows, columns = x.shape[-2], x.shape[-1]
    row = xp.reshape(xp.indices(list(range(rows)), x), (rows, 1))
    column = xp.reshape(xp.indices(list(range(columns)), x), (1, columns))
    kept = column - row >= shift if upper else column - row <= shift
    return (xp.where(kept, g, 0.0), None)


# ----- Compared: true or false, and whole numbers -----


def _stop(xp, g, y, *inputs, **_):
    return (None,) * len(inputs)


_STOPS = (
    "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsInf IsNaN "
    "BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BitCast"
).split()

for _name in _STOPS:
    operator(_name, role="stop", offset=none)(_stop)
