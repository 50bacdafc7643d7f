"""Arithmetic of two or more tensors, with broadcasting."""

from onnxexplain.ops._operator import elementwise, none, operator

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
    return (xp.sum_like(xp.scale(g, 1.0 / b), a), xp.sum_like(xp.scale(-g, y / b), b))


def _pow_offset(xp, y, x, power, *, varies):
    power = xp.cast_like(power, x)
    left = y
    if varies[0]:
        left = left - power * y
    if varies[1]:
        left = left - power * y * xp.log(xp.where(x > 0, x, 1.0))
    return left


def _pow(xp, g, y, x, power):
    exponent = xp.cast_like(power, x)
    # The logarithm stands for itself only where the power is looked at, which needs x > 0.
    logarithm = xp.log(xp.where(x > 0, x, 1.0))
    slope = exponent * xp.pow(x, exponent - 1.0)
    # A root is infinitely steep at 0, which counts as 0.
    slope = xp.where(xp.abs(x) > 0, slope, xp.where(exponent < 1.0, 0.0, slope))
    return (
        xp.sum_like(g * slope, x),
        xp.sum_like(g * y * logarithm, power),
    )


operator("Pow", role="product", offset=_pow_offset)(_pow)


# ----- What is left of a division: the whole number it leaves out is flat -----


def _rest_offset(xp, y, x, divisor, *, varies, fmod=0):
    if all(varies):
        return None
    return y - x if varies[0] else x


@operator("Mod", role="sum", offset=_rest_offset)
def mod(xp, g, y, x, divisor, *, fmod=0):
    return (xp.sum_like(g, x), xp.sum_like(g * ((y - x) / divisor), divisor))


# ----- Means and extremes: an extreme goes to the first of its equals -----


@operator("Mean", role="sum", offset=lambda xp, y, *terms, varies: _mean_offset(terms, varies))
def mean(xp, g, y, *terms):
    share = g / float(len(terms))
    return tuple(xp.sum_like(share, term) for term in terms)


def _mean_offset(terms, varies):
    held = [term for term, moves in zip(terms, varies, strict=True) if not moves]
    return sum(held[1:], held[0]) / float(len(terms)) if held else None


def _extreme(xp, g, y, *terms, beats):
    """Where each term is the extreme: the first that none of the others beats."""
    left, parts = g, []
    for term in terms:
        # What an earlier term has taken is zero by now.
        parts.append(xp.sum_like(xp.where(beats(term, y), left, 0.0), term))
        left = xp.where(beats(term, y), 0.0, left)
    return tuple(parts)


def _max(xp, g, y, *terms):
    return _extreme(xp, g, y, *terms, beats=lambda term, y: term >= y)


def _min(xp, g, y, *terms):
    return _extreme(xp, g, y, *terms, beats=lambda term, y: term <= y)


def _extreme_offset(beats):
    def offset(xp, y, *terms, varies):
        if all(varies):
            return None
        left, held = y, xp.zeros_like(y)
        for term, moves in zip(terms, varies, strict=True):
            if not moves:
                held = held + xp.where(beats(term, y), left, 0.0)
            left = xp.where(beats(term, y), 0.0, left)
        return held

    return offset


operator("Max", role="routing", offset=_extreme_offset(lambda t, y: t >= y))(_max)
operator("Min", role="routing", offset=_extreme_offset(lambda t, y: t <= y))(_min)


# ----- Functions of each element -----


_SLOPES = {
    "Abs": lambda xp, y, x: xp.sign(x),
    "Acos": lambda xp, y, x: -1.0 / xp.sqrt(1.0 - x * x),
    "Acosh": lambda xp, y, x: 1.0 / xp.sqrt(x * x - 1.0),
    "Asin": lambda xp, y, x: 1.0 / xp.sqrt(1.0 - x * x),
    "Asinh": lambda xp, y, x: 1.0 / xp.sqrt(x * x + 1.0),
    "Atan": lambda xp, y, x: 1.0 / (x * x + 1.0),
    "Atanh": lambda xp, y, x: 1.0 / (1.0 - x * x),
    "Cos": lambda xp, y, x: -xp.sin(x),
    "Cosh": lambda xp, y, x: xp.sinh(x),
    "Exp": lambda xp, y, x: y,
    "Log": lambda xp, y, x: 1.0 / x,
    "Reciprocal": lambda xp, y, x: -y * y,
    "Sin": lambda xp, y, x: xp.cos(x),
    "Sinh": lambda xp, y, x: xp.cosh(x),
    "Sqrt": lambda xp, y, x: 0.5 / y,
    "Tan": lambda xp, y, x: y * y + 1.0,
}


def _by_slope(slope):
    """The way back through a function of each element, by its derivative."""

    def back(xp, g, y, x):
        steep = slope(xp, y, x)
        # Infinite at an edge (a root at 0), where the convention is 0: a share of nothing.
        return (g * xp.where(xp.abs(steep) < 3e38, steep, 0.0),)

    return back


for _name, _slope in _SLOPES.items():
    _back = _by_slope(_slope)
    operator(_name, role="activation", offset=elementwise(_back))(_back)


# ----- Steps: flat wherever they have a derivative, so all they give is a constant -----


def _all(xp, y, x, *, varies):
    return y


@operator("Sign", role="stop", offset=_all)
def sign(xp, g, y, x):
    return (None,)


@operator("Floor", role="stop", offset=_all)
def floor(xp, g, y, x):
    return (None,)


@operator("Ceil", role="stop", offset=_all)
def ceil(xp, g, y, x):
    return (None,)


@operator("Round", role="stop", offset=_all)
def round_(xp, g, y, x):
    return (None,)
