"""Products read as a weight times what it weighs: the weight counts as a constant."""

from onnxexplain.ops import einsum, elementwise, linear  # noqa: F401 - they register first
from onnxexplain.ops._operator import HELD, none, operator, operators

_PRODUCTS = frozenset({"Mul", "MatMul", "Gemm", "Einsum"})


def _free(varies, held):
    """Which operands vary, those in the slots ``held`` counting as constants."""
    return tuple(moves and slot not in held for slot, moves in enumerate(varies))


def _gated(exact):
    """Register a product of which the operands in the slots ``held`` get nothing.

    What is left is linear in the others, and so is its offset: that of the same product with
    these operands constant.
    """
    left_over = exact.offset or none

    def offset(xp, y, *inputs, varies, held, **said):
        return left_over(xp, y, *inputs, varies=_free(varies, held), **said)

    @operator(exact.op_type, role=exact.role, domain=HELD, offset=offset)
    def back(xp, g, y, *inputs, varies, held, **said):
        left = _free(varies, held)
        told = {"varies": left} if exact.told else {}
        given = exact.back(xp, g, y, *inputs, **told, **said)
        return tuple(v if moves else None for v, moves in zip(given, left, strict=False))

    return back


for _exact in [op for op in operators() if op.op_type in _PRODUCTS and not op.domain]:
    _gated(_exact)
