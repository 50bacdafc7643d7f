"""ONNX Runtime's own operators (``com.microsoft``), as its optimiser writes them into files."""

from onnxexplain.graph.spelled._spelling import Scope, spelling

DOMAIN = "com.microsoft"


@spelling("QuickGelu", domain=DOMAIN)
def quick_gelu(scope: Scope) -> bool:
    """``x * sigmoid(alpha * x)``."""
    (x,), (y,) = scope.node.inputs, scope.node.outputs
    alpha = scope.constant(scope.node.attributes.get("alpha", 1.702))
    gate = scope.write("Sigmoid", scope.write("Mul", x, alpha))
    scope.write("Mul", x, gate, to=y)
    return True
