"""Operators of no standard: say how one differentiates, or spell it out, and it is explained."""

import numpy as np
import onnx
from onnx import TensorProto, helper

import onnxexplain as ox


@ox.register_operator("com.microsoft", "Inverse", role="product")
def inverse(xp, g, y, x):
    """The derivative of a matrix inverse: -Y' G Y' (primes transpose)."""
    turned = xp.permute_dims(y, (0, 2, 1))
    return (-xp.matmul(xp.matmul(turned, g), turned),)


@ox.register_lowering("my.domain", "Cube")
def cube(scope):
    """The cube, in operators that are known already."""
    (x,), (y,) = scope.node.inputs, scope.node.outputs
    scope.write("Mul", x, scope.write("Mul", x, x), to=y)
    return True


graph = helper.make_graph(
    [
        helper.make_node("Add", ["x", "eye"], ["s"], "regular"),
        helper.make_node("Inverse", ["s"], ["i"], "inverse", domain="com.microsoft"),
        helper.make_node("Cube", ["i"], ["c"], "cube", domain="my.domain"),
        helper.make_node("Flatten", ["c"], ["f"], "rows"),
        helper.make_node("Gemm", ["f", "v"], ["scores"], "head"),
    ],
    "inverse",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 2])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
    [
        onnx.numpy_helper.from_array(2 * np.eye(2, dtype=np.float32), "eye"),
        onnx.numpy_helper.from_array(np.float32([[1, 2], [-1, 1], [0, 3], [2, -2]]), "v"),
    ],
)
domains = [helper.make_opsetid(d, v) for d, v in (("", 18), ("com.microsoft", 1), ("my.domain", 1))]
model = helper.make_model(graph, opset_imports=domains, ir_version=9)

e = ox.explain(model, np.float32([[[1.0, 0.5], [-0.2, 0.3]]]), target=1)
print(e.attributions["x"], e.constants, e.residual)
assert abs(e.residual[0]) < 1e-5
