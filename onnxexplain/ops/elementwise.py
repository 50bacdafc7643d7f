"""Arithmetic of two or more tensors, with broadcasting."""

from onnxexplain.ops._operator import none, operator

# ----- Sums: a constant operand is what they add -----


def _constants(xp, y, *terms, varies):
    """The terms that no model input reaches."""
    held = [term for term, moves in zip(terms, varies, strict=True) if not moves]
    return sum(held[1:], held[0]) if held else None


def _sub_offset(xp, y, a, b, *, varies):
    if varies[0]:
        return None if varies[1] else -b
    return a


@operator("Add", role="sum", offset=_constants)
def add(xp, g, y, a, b):
    return (xp.sum_like(g, a), xp.sum_like(g, b))


@operator("Sum", role="sum", offset=_constants)
def sum_(xp, g, y, *terms):
    return tuple(xp.sum_like(g, term) for term in terms)


@operator("Sub", role="sum", offset=_sub_offset)
def sub(xp, g, y, a, b):
    return (xp.sum_like(g, a), xp.sum_like(-g, b))


@operator("Neg", role="linear", offset=none)
def neg(xp, g, y, x):
    return (-g,)


# ----- Products: two that vary count the result twice -----


def _product_offset(xp, y, a, b, *, varies):
    return -y if all(varies) else None


def _quotient_offset(xp, y, a, b, *, varies):
    if not varies[1]:
        return None
    return y if varies[0] else 2.0 * y


@operator("Mul", role="product", offset=_product_offset)
def mul(xp, g, y, a, b):
    return (xp.sum_like(g * b, a), xp.sum_like(g * a, b))


@operator("Div", role="product", offset=_quotient_offset)
def div(xp, g, y, a, b):
    return (xp.sum_like(g / b, a), xp.sum_like(-g * y / b, b))
