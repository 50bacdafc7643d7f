"""Einstein's sum: products of any operands, summed over the letters that are not asked for.

The way back into one operand is such a sum itself: what arrives times all the other operands,
summed over the letters that this one has not.
"""

import math

from onnxexplain.ops._operator import operator

# ----- The equation -----


_DOTS = 0x2460
"""Characters that no equation has name the axes of an ellipsis, from this one on."""


def _read(equation, ranks):
    """The letters of every operand and of the result, those of an ellipsis among them."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    wide = max(r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True))
    dots = [chr(_DOTS + i) for i in range(wide)]

    def letters(term, rank):
        if "..." not in term:
            return list(term)
        begin, _, end = term.partition("...")
        many = rank - len(begin) - len(end)
        return [*begin, *dots[wide - many :], *end]

    inputs = [letters(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    if "->" in equation:
        return inputs, letters(right, len(right.replace("...", "")) + wide)
    every = [letter for term in inputs for letter in term if letter not in dots]
    once = sorted(letter for letter in set(every) if every.count(letter) == 1)
    return inputs, [*dots, *once]


# ----- Operands -----


def _diagonal(xp, x, letters):
    """``x`` with one axis per letter: of a letter said twice, the elements where both agree."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            order = [a for a in range(x.ndim) if a not in (first, second)]
            rest = [x.shape[a] for a in order]
            many = x.shape[first]
            flat = xp.reshape(xp.permute_dims(x, [*order, first, second]), (*rest, many * many))
            cuts = [*(slice(None),) * len(rest), slice(None, None, many + 1)]
            x, letters = xp.cut(flat, cuts), [*(letters[a] for a in order), letter]
    return x, letters


def _undiagonal(xp, g, letters, wanted):
    """Undo :func:`_diagonal`: ``g`` where letters said twice agree, zero elsewhere."""
    for at, letter in enumerate(wanted):
        if letter not in wanted[:at]:
            continue
        many = g.shape[letters.index(letter)]
        same = [[float(i == j) for j in range(many)] for i in range(many)]
        shape = [1] * (g.ndim + 1)
        shape[letters.index(letter)], shape[at] = many, many
        g = xp.expand_dims(g, axis=at) * xp.reshape(xp.constant(same, g), shape)
        letters = [*letters[:at], letter, *letters[at:]]
    return g


def _ordered(xp, x, letters, wanted):
    return xp.permute_dims(x, [letters.index(letter) for letter in wanted])


def _slim(xp, x, letters, sizes):
    """``x`` without the axes of length one that are longer elsewhere: those are broadcast."""
    kept = [a for a, n in enumerate(x.shape) if n == sizes[letters[a]]]
    return xp.reshape(x, [x.shape[a] for a in kept]), [letters[a] for a in kept]


# ----- Sums of products -----


def _sum_to(xp, x, letters, wanted):
    """Sum over the letters that are not wanted."""
    axes = [a for a, letter in enumerate(letters) if letter not in wanted]
    if not axes:
        return x, letters
    return xp.sum(x, axis=axes), [letter for letter in letters if letter in wanted]


def _product(xp, a, b, wanted):
    """The product of two operands, summed over what is not ``wanted``: one matrix product."""
    (x, of_x), (z, of_z) = a, b
    x, of_x = _sum_to(xp, x, of_x, {*of_z, *wanted})
    z, of_z = _sum_to(xp, z, of_z, {*of_x, *wanted})
    both = [letter for letter in of_x if letter in of_z]
    batch = [letter for letter in both if letter in wanted]
    inner = [letter for letter in both if letter not in wanted]
    rows = [letter for letter in of_x if letter not in both]
    columns = [letter for letter in of_z if letter not in both]
    sizes = dict(zip([*of_x, *of_z], [*x.shape, *z.shape], strict=True))

    def laid(v, letters, groups):
        flat = [math.prod(sizes[letter] for letter in group) for group in groups[1:]]
        order = [letter for group in groups for letter in group]
        v = _ordered(xp, v, letters, order)
        return xp.reshape(v, [*(sizes[letter] for letter in batch), *flat])

    left = laid(x, of_x, [batch, rows, inner])
    right = laid(z, of_z, [batch, inner, columns])
    letters = [*batch, *rows, *columns]
    y = xp.matmul(left, right) if inner else left * right
    return xp.reshape(y, [sizes[letter] for letter in letters]), letters


def _contract(xp, operands, wanted):
    """The product of all operands, summed over the letters that are not wanted."""
    operands = [_diagonal(xp, x, letters) for x, letters in operands]
    while len(operands) > 1:
        a, b, *rest = operands
        needed = {*wanted, *(letter for _, letters in rest for letter in letters)}
        operands = [_product(xp, a, b, needed), *rest]
    ((x, letters),) = operands
    return _sum_to(xp, x, letters, wanted)


def _spread(xp, x, letters, wanted, sizes):
    """Repeat ``x`` along the wanted letters it has not, and bring them in order."""
    missing = [letter for letter in wanted if letter not in letters]
    x = xp.reshape(x, [*x.shape, *(1,) * len(missing)])
    x = _ordered(xp, x, [*letters, *missing], wanted)
    return xp.broadcast_to(x, [sizes[letter] for letter in wanted])


# ----- The operator -----


def _terms(xp, equation, operands):
    """Operands with their letters, the letters of the result, the length of each letter."""
    letters, out = _read(equation, [x.ndim for x in operands])
    sizes: dict[str, int] = {}
    for x, named in zip(operands, letters, strict=True):
        for letter, n in zip(named, x.shape, strict=True):
            sizes[letter] = max(n, sizes.get(letter, 1))
    return list(zip(operands, letters, strict=True)), out, sizes


def _einsum(xp, *operands, equation):
    terms, out, sizes = _terms(xp, equation, operands)
    y, letters = _contract(xp, [_slim(xp, x, named, sizes) for x, named in terms], out)
    return _spread(xp, y, letters, out, sizes)


def _einsum_offset(xp, y, *operands, varies, equation):
    many = sum(varies)
    return None if many == 1 else (1.0 - many) * y


@operator("Einsum", role="linear", offset=_einsum_offset, forward=_einsum, weight=1)
def einsum(xp, g, y, *operands, varies, equation):
    terms, out, sizes = _terms(xp, equation, operands)
    slim = [_slim(xp, x, named, sizes) for x, named in terms]
    found: list[object] = []
    for i, (_, named) in enumerate(slim):
        if not varies[i]:
            found.append(None)
            continue
        once = list(dict.fromkeys(named))
        to_x, letters = _contract(xp, [(g, out), *slim[:i], *slim[i + 1 :]], once)
        to_x = _spread(xp, to_x, letters, once, sizes)
        found.append(xp.reshape_like(_undiagonal(xp, to_x, once, named), terms[i][0]))
    return tuple(found)
