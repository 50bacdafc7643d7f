"""The activations inside recurrent operators, by the names the standard gives them."""

from collections.abc import Callable, Iterator, Sequence

from onnxexplain.graph.spelled._spelling import Scope

Activation = Callable[[str], str]
"""Writes the activation of a tensor and returns its name."""

_PLAIN = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softsign": "Softsign",
    "softplus": "Softplus",
}
# What a node leaves out is what ONNX Runtime takes for it.
_WITH_ALPHA = {
    "leakyrelu": ("LeakyRelu", 0.01),
    "thresholdedrelu": ("ThresholdedRelu", 0.0),
    "elu": ("Elu", 1.0),
}
_WITH_BOTH = {"hardsigmoid": (0.2, 0.5), "affine": (0.0, 0.0), "scaledtanh": (0.0, 0.0)}


def activations(scope: Scope, names: Sequence[str]) -> list[Activation] | None:
    """Return one writer per name, None (and a reason) where a name is none of the standard's.

    The node's ``activation_alpha`` and ``activation_beta`` are used up by those that need one, in
    order.
    """
    said = scope.node.attributes
    alphas, betas = iter(said.get("activation_alpha", ())), iter(said.get("activation_beta", ()))
    found = []
    for name in names:
        activation = _named(scope, name.lower(), alphas, betas)
        if activation is None:
            scope.refuse(f"whose activation `{name}` is none of the standard's")
            return None
        found.append(activation)
    return found


def _named(
    scope: Scope, name: str, alphas: Iterator[float], betas: Iterator[float]
) -> Activation | None:
    if name in _PLAIN:
        return lambda x: scope.write(_PLAIN[name], x)
    if name in _WITH_ALPHA:
        op_type, default = _WITH_ALPHA[name]
        alpha = next(alphas, default)
        return lambda x: scope.write(op_type, x, alpha=alpha)
    if name not in _WITH_BOTH:
        return None
    first, second = _WITH_BOTH[name]
    first, second = next(alphas, first), next(betas, second)
    if name == "hardsigmoid":
        return lambda x: scope.write("HardSigmoid", x, alpha=first, beta=second)
    a, b = scope.constant(float(first)), scope.constant(float(second))
    if name == "affine":
        return lambda x: scope.write("Add", scope.write("Mul", x, a), b)
    return lambda x: scope.write("Mul", scope.write("Tanh", scope.write("Mul", x, b)), a)
