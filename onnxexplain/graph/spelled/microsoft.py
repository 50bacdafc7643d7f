"""ONNX Runtime's own operators (``com.microsoft``), as its optimiser writes them into files.

Those of transformers are in ``transformers``, those of quantised networks in ``quantised``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxexplain.errors import UnsupportedOperator
from onnxexplain.graph.endings import before
from onnxexplain.graph.spelled._spelling import Scope, Spelling, spelling

DOMAIN = "com.microsoft"


def put(scope: Scope, slot: int) -> str:
    """Return the name of an input, empty where it is left out."""
    return scope.node.inputs[slot] if slot < len(scope.node.inputs) else ""


# ----- An activation behind a product -----

_PARAMETERS = {
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
}


def activated(scope: Scope, x: str, name: str, given: Sequence[float], to: str) -> bool:
    """Write an activation by its name and its parameters; none where the name is empty.

    What goes into one that may end a model has a name by which it is found.
    """
    if name == "Sigmoid":
        x = scope.write("Identity", x, to=before(to))
    if name == "Clip":
        low, high = (scope.constant(float(v)) for v in given[:2])
        scope.write("Clip", x, low, high, to=to)
    elif not name:
        scope.write("Identity", x, to=to)
    else:
        numbers = map(float, given)
        said: dict[str, Any] = dict(zip(_PARAMETERS.get(name, ()), numbers, strict=False))
        scope.write(name, x, to=to, **said)
    return True


def parted(said: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take the attributes that begin with a prefix out of the others."""
    return {name: said.pop(name) for name in list(said) if name.startswith(prefix)}


@spelling("FusedConv", domain=DOMAIN)
def fused_conv(scope: Scope) -> bool:
    """Conv, a tensor added, an activation."""
    said = dict(scope.node.attributes)
    fused = parted(said, "activation")
    y = scope.write("Conv", *filter(None, scope.node.inputs[:3]), **said)
    if put(scope, 3):
        y = scope.write("Add", y, put(scope, 3))
    given = fused.get("activation_params", ())
    return activated(scope, y, fused.get("activation", ""), given, scope.node.outputs[0])


@spelling("FusedGemm", domain=DOMAIN)
def fused_gemm(scope: Scope) -> bool:
    """Gemm and an activation."""
    said = dict(scope.node.attributes)
    fused = parted(said, "activation")
    y = scope.write("Gemm", *scope.node.inputs, **said)
    name = fused.get("activation", "")
    names = _PARAMETERS.get(name, ())
    given = [fused[f"activation_{n}"] for n in names if f"activation_{n}" in fused]
    return activated(scope, y, name, given, scope.node.outputs[0])


# ----- Products of turned matrices -----


def _turned(scope: Scope, x: str, turn: bool, batch: bool) -> str | None:
    """A matrix with its last two axes exchanged, its first axis among the last two before."""
    if not (turn or batch):
        return x
    shape = scope.shape(x)
    if shape is None:
        return None
    perm = list(range(len(shape)))
    if batch:
        perm = [*perm[1:-1], 0, perm[-1]]
    if turn:
        perm = [*perm[:-2], perm[-1], perm[-2]]
    return scope.write("Transpose", x, perm=perm)


def _product(scope: Scope, to: str) -> str:
    """Write the product of two turned matrices, times a number; empty where it must wait."""
    said = scope.node.attributes
    left = _turned(scope, put(scope, 0), bool(said.get("transA")), bool(said.get("transBatchA")))
    right = _turned(scope, put(scope, 1), bool(said.get("transB")), bool(said.get("transBatchB")))
    if left is None or right is None:
        return ""
    alpha = said.get("alpha", 1.0)
    if alpha == 1:
        return scope.write("MatMul", left, right, to=to)
    product = scope.write("MatMul", left, right)
    return scope.write("Mul", product, scope.constant(float(alpha)), to=to)


@spelling("FusedMatMul", domain=DOMAIN)
@spelling("TransposeMatMul", domain=DOMAIN)
def fused_matmul(scope: Scope) -> bool:
    """MatMul of transposed matrices, times a number."""
    return bool(_product(scope, scope.node.outputs[0]))


@spelling("FusedMatMulActivation", domain=DOMAIN)
def fused_matmul_activation(scope: Scope) -> bool:
    """The same, and an activation."""
    fused = parted(dict(scope.node.attributes), "activation")
    y, name = _product(scope, ""), fused["activation"]
    if not y:
        return False
    if name == "Softmax":
        scores = scope.write("Identity", y, to=before(scope.node.outputs[0]))
        axis = fused.get("activation_axis", -1)
        scope.write(name, scores, to=scope.node.outputs[0], axis=axis)
        return True
    names = _PARAMETERS.get(name, ())
    given = [fused[f"activation_{n}"] for n in names if f"activation_{n}" in fused]
    return activated(scope, y, name, given, scope.node.outputs[0])


# ----- Gelu and its kin -----


def _gelu(name: str, *, bias: int | None, product: bool = False, **said: Any) -> None:
    """Spell an operator as Gelu, behind a product and a bias where it has them."""

    @spelling(name, domain=DOMAIN)
    def spell(scope: Scope) -> bool:
        x = scope.node.inputs[0]
        if product:
            x = scope.write("MatMul", x, put(scope, 1))
        if bias is not None and put(scope, bias):
            x = scope.write("Add", x, put(scope, bias))
        scope.write("Gelu", x, to=scope.node.outputs[0], **said)
        return True


_gelu("Gelu", bias=None)
_gelu("BiasGelu", bias=1)
_gelu("FastGelu", bias=1, approximate="tanh")
_gelu("GemmFastGelu", bias=2, product=True, approximate="tanh")


@spelling("BiasSplitGelu", domain=DOMAIN)
def bias_split_gelu(scope: Scope) -> bool:
    """The first half of the last axis times Gelu of the second."""
    x = scope.write("Add", *scope.node.inputs)
    left, right = scope.write_all("Split", x, to=["", ""], axis=-1, num_outputs=2)
    scope.write("Mul", left, scope.write("Gelu", right), to=scope.node.outputs[0])
    return True


@spelling("QuickGelu", domain=DOMAIN)
def quick_gelu(scope: Scope) -> bool:
    """``x * sigmoid(alpha * x)``."""
    (x,), (y,) = scope.node.inputs, scope.node.outputs
    alpha = scope.constant(scope.node.attributes.get("alpha", 1.702))
    gate = scope.write("Sigmoid", scope.write("Mul", x, alpha))
    scope.write("Mul", x, gate, to=y)
    return True


# ----- Sums -----


@spelling("BiasAdd", domain=DOMAIN)
@spelling("BiasDropout", domain=DOMAIN)
def bias_add(scope: Scope) -> bool:
    """A bias and, where it is given, a skip added; dropout lets everything through."""
    terms = [t for t in scope.node.inputs[:3] if t]
    scope.write("Sum", *terms, to=scope.node.outputs[0])
    return True


@spelling("BiasSoftmax", domain=DOMAIN)
def bias_softmax(scope: Scope) -> bool:
    """Softmax of a sum, over all axes from the given one on."""
    x = scope.write("Add", *scope.node.inputs)
    axis = scope.node.attributes.get("axis", 1)
    flat = scope.write("Softmax", scope.write("Flatten", x, axis=axis), axis=-1)
    shape = scope.write("Shape", scope.node.inputs[0])
    scope.write("Reshape", flat, shape, to=scope.node.outputs[0])
    return True


# ----- Twins of operators of the standard -----


def _twin(name: str, as_: str = "") -> Spelling:
    @spelling(name, domain=DOMAIN)
    def spell(scope: Scope) -> bool:
        said = scope.node.attributes
        scope.write_all(as_ or name, *scope.node.inputs, to=scope.node.outputs, **said)
        return True

    return spell


for _name in ("Pad", "Trilu", "GatherND"):
    _twin(_name)


@spelling("ExpandDims", domain=DOMAIN)
def expand_dims(scope: Scope) -> bool:
    """Unsqueeze along one axis."""
    axis = scope.value(scope.node.inputs[1])
    if axis is None:
        return False
    axes = scope.constant(axis.reshape(-1).astype(np.int64))
    scope.write("Unsqueeze", scope.node.inputs[0], axes, to=scope.node.outputs[0])
    return True


# ----- Laid out for one processor -----


def _blocked(scope: Scope) -> bool:
    where = f"{scope.node.domain}.{scope.node.op_type} (node `{scope.node.name}`)"
    raise UnsupportedOperator(
        f"{where} is laid out for one kind of processor; save the optimised model at level "
        "`extended` (ORT_ENABLE_EXTENDED) instead of `all`, which keeps what can be explained"
    )


_BLOCKED = (
    "Conv MaxPool GlobalMaxPool AveragePool GlobalAveragePool Upsample ReorderInput ReorderOutput"
).split()

for _name in _BLOCKED:
    spelling(_name, domain="com.microsoft.nchwc")(_blocked)
