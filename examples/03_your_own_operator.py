"""An operator this package has never heard of: say how it differentiates, and it is explained."""

import numpy as np
import onnx
from onnx import TensorProto, helper

import onnxexplain as ox


@ox.operator("HardSwish", role="activation", offset=None)
def hard_swish(xp, g, y, x):
    """The derivative of x * clip(x / 6 + 1/2, 0, 1)."""
    inside = xp.where(x > -3.0, xp.where(x < 3.0, x / 3.0 + 0.5, 1.0), 0.0)
    return (g * inside,)


graph = helper.make_graph(
    [
        helper.make_node("Gemm", ["x", "w"], ["h"], "dense"),
        helper.make_node("HardSwish", ["h"], ["a"], "swish"),
        helper.make_node("Gemm", ["a", "v"], ["scores"], "head"),
    ],
    "swish",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
    [
        onnx.numpy_helper.from_array(np.float32([[1, -1], [2, 0], [0, 3]]), "w"),
        onnx.numpy_helper.from_array(np.float32([[1, 2], [-1, 1]]), "v"),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

e = ox.explain(model, np.float32([[1.0, 0.5, -0.2]]), target=1)
print(e.attributions["x"], e.constants, e.residual)
assert abs(e.residual[0]) < 1e-5
