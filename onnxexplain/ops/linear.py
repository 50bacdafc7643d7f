"""Matrix products."""

from onnxexplain.ops._operator import operator


def _turned(xp, x):
    """The last two axes exchanged."""
    return xp.permute_dims(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


# ----- Gemm -----


def _gemm(xp, x, w, b=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    y = alpha * xp.matmul(_turned(xp, x) if transA else x, _turned(xp, w) if transB else w)
    return y if b is None else y + beta * b


def _gemm_offset(xp, y, a, b, c=None, *, varies, alpha=1.0, beta=1.0, transA=0, transB=0):
    held = None if c is None or varies[2] else beta * c
    if varies[0] != varies[1]:
        return held
    product = y if c is None else y - beta * c
    product = -product if varies[0] else product
    return product if held is None else product + held


@operator("Gemm", role="linear", offset=_gemm_offset, forward=_gemm, weight=1, bias=2)
def gemm(xp, g, y, a, b, c=None, *, varies, alpha=1.0, beta=1.0, transA=0, transB=0):
    scaled, to_a, to_b = g if alpha == 1.0 else alpha * g, None, None
    if varies[0]:
        to_a = xp.matmul(scaled, b if transB else _turned(xp, b))
        to_a = _turned(xp, to_a) if transA else to_a
    if varies[1]:
        to_b = xp.matmul(a if transA else _turned(xp, a), scaled)
        to_b = _turned(xp, to_b) if transB else to_b
    return (to_a, to_b, xp.sum_like(beta * g, c) if c is not None and varies[2] else None)


# ----- MatMul, in any rank -----


def _matmul(xp, x, w):
    return xp.matmul(x, w)


def _matmul_offset(xp, y, a, b, *, varies):
    return -y if all(varies) else None


@operator("MatMul", role="linear", offset=_matmul_offset, forward=_matmul, weight=1)
def matmul(xp, g, y, a, b, *, varies):
    # A vector is a row on the left and a column on the right, as the standard has it.
    row = xp.expand_dims(a, axis=0) if a.ndim == 1 else a
    column = xp.expand_dims(b, axis=1) if b.ndim == 1 else b
    if b.ndim == 1:
        g = xp.expand_dims(g, axis=-1)
    if a.ndim == 1:
        g = xp.expand_dims(g, axis=-2)
    to_a = to_b = None
    if varies[0]:
        to_a = xp.reshape_like(xp.sum_like(xp.matmul(g, _turned(xp, column)), row), a)
    if varies[1]:
        to_b = xp.reshape_like(xp.sum_like(xp.matmul(_turned(xp, row), g), column), b)
    return (to_a, to_b)
