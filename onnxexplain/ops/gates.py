"""Products read as a weight times what it weighs: the weight counts as a constant."""

from onnxexplain.ops import einsum, elementwise, linear  # noqa: F401 - they register first
from onnxexplain.ops._operator import HELD, find, operator


def _gated(name):
    """Register a product of which the operands in the slots ``held`` get nothing.

    What is left is linear in the others, and so is its offset: that of the same product with
    these operands constant.
    """
    exact = find("", name)

    def free(varies, held):
        return tuple(moves and slot not in held for slot, moves in enumerate(varies))

    def offset(xp, y, *inputs, varies, held, **said):
        return exact.offset(xp, y, *inputs, varies=free(varies, held), **said)

    @operator(name, role=exact.role, domain=HELD, offset=offset)
    def back(xp, g, y, *inputs, varies, held, **said):
        left = free(varies, held)
        told = {"varies": left} if exact.told else {}
        given = exact.back(xp, g, y, *inputs, **told, **said)
        return tuple(v if moves else None for v, moves in zip(given, left, strict=False))

    return back


for _name in ("Mul", "MatMul", "Gemm", "Einsum"):
    _gated(_name)
