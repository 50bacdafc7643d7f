"""Small models, written in ONNX's own textual syntax."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

from onnxexplain.graph import lower
from onnxexplain.runtime import evaluate, newest, run_once

Array = np.ndarray[Any, Any]


def net(body: str, *, opset: int = 18, domain: str = "", **weights: Any) -> onnx.ModelProto:
    """Return a model ``inputs => outputs { nodes }``; each keyword is an initialiser.

    Python floats and lists become float32, integers int64.
    """
    imports = f'"" : {opset}' + (f', "{domain}" : 1' if domain else "")
    proto = parser.parse_model(f"<ir_version: 8, opset_import: [{imports}]> net {body}")
    proto.graph.initializer.extend(
        numpy_helper.from_array(_weight(value), name) for name, value in weights.items()
    )
    return proto


def _weight(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def weights(seed: int, **shapes: Sequence[int]) -> dict[str, Array]:
    """Return normal weights by name, small enough to keep activations near one."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) / max(np.prod(shape[1:]), 1) ** 0.5).astype(np.float32)
        for name, shape in shapes.items()
    }


HEAD = "g = GlobalAveragePool(a)  f = Flatten(g)  y = Gemm<transB=1>(f, v, c)"


def convolutional(middle: str, channels: int = 6, **held):
    """``x`` through one convolution to ``h``, ``middle`` from ``h`` to ``a``, and a head."""
    return net(
        f"""(float[N,3,8,8] x) => (float[N,4] y) {{
            h = Conv<pads=[1,1,1,1]>(x, w, b)  {middle}  {HEAD} }}""",
        **weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, channels), c=(4,)),
        **held,
    )


def norm(seed: int, channels: int, prefix: str = "bn") -> dict[str, Array]:
    """Return a BatchNormalization's weights, some of its gammas negative and one zero."""
    rng = np.random.default_rng(seed)
    gamma = rng.uniform(-1.5, 1.5, channels).astype(np.float32)
    gamma[-1] = 0
    return {
        f"{prefix}_scale": gamma,
        f"{prefix}_b": rng.standard_normal(channels).astype(np.float32),
        f"{prefix}_mean": rng.standard_normal(channels).astype(np.float32),
        f"{prefix}_var": rng.uniform(0.5, 2, channels).astype(np.float32),
    }


def in_float64(proto: onnx.ModelProto, feeds: Mapping[str, Array], output: str) -> Array:
    """Return a tensor of a model computed in float64 by ONNX's reference implementation."""
    sizes = {name: value.shape for name, value in feeds.items()}
    lowered = lower(proto, sizes, run_once, "float64", newest())
    return evaluate(lowered.proto, feeds, [output])[output]


class Numeric:
    """The scalar ``sum(seed * output)`` of a model in float64, and its central differences."""

    def __init__(
        self, proto: onnx.ModelProto, feeds: Mapping[str, Array], output: str, seed: Array
    ) -> None:
        sizes = {name: value.shape for name, value in feeds.items()}
        self.proto = lower(proto, sizes, run_once, "float64", newest()).proto
        self.feeds = {
            n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()
        }
        self.output, self.seed = output, seed.astype(np.float64)

    def value(self, feeds: Mapping[str, Array] | None = None) -> Array:
        """Return the output, on the feeds at hand or on others."""
        given = self.feeds if feeds is None else feeds
        return evaluate(self.proto, given, [self.output])[self.output]

    def __call__(self, feeds: Mapping[str, Array]) -> float:
        return float((self.seed * self.value(feeds)).sum())

    def along(self, direction: Mapping[str, Array], step: float = 1e-6) -> float:
        """Return the derivative along a direction."""
        ahead = {n: v + step * direction[n] if n in direction else v for n, v in self.feeds.items()}
        behind = {
            n: v - step * direction[n] if n in direction else v for n, v in self.feeds.items()
        }
        return (self(ahead) - self(behind)) / (2 * step)


def flat(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every float input and output as one row [1,K], a batch of one.

    The outputs are joined into one tensor ``scores``. So a node of any shape is explained as a
    model with a batch axis would be.
    """
    graph = proto.graph
    held = {t.name for t in graph.initializer}
    before, after, inputs, rows = [], [], [], []
    for value in graph.input:
        if value.name in held:
            continue
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        row = f"{value.name}_row"
        inputs.append(
            helper.make_tensor_value_info(row, onnx.TensorProto.FLOAT, [1, int(np.prod(shape))])
        )
        graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{row}_shape"))
        before.append(helper.make_node("Reshape", [row, f"{row}_shape"], [value.name], f"{row}_in"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, -1], np.int64), "as_row"))
    for value in graph.output:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            rows.append(f"{value.name}_row")
            after.append(helper.make_node("Reshape", [value.name, "as_row"], [rows[-1]], rows[-1]))
    after.append(helper.make_node("Concat", rows, ["scores"], "scores", axis=1))
    nodes = [*before, *graph.node, *after]
    for field in (graph.node, graph.input, graph.output):
        del field[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.append(helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, None]))
    return proto


def dr_weights(seed: int = 0, width: int = 2, classes: int = 5) -> dict[str, Array]:
    """Return random weights of the DR network, every layer ``width`` channels wide."""
    from onnxexplain.dr import LAYERS

    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    inner = 3
    for layer in LAYERS:
        side = 2 if layer == "rf637" else 3
        scale = (2 / (inner * side * side)) ** 0.5
        found[f"{layer}.conv.weight"] = scale * rng.standard_normal((width, inner, side, side))
        found[f"{layer}.conv.bias"] = 0.1 * rng.standard_normal(width)
        found[f"{layer}.bn.weight"] = rng.uniform(0.5, 1.5, width)
        found[f"{layer}.bn.bias"] = 0.3 + 0.1 * rng.standard_normal(width)
        found[f"{layer}.bn.running_mean"] = 0.1 * rng.standard_normal(width)
        found[f"{layer}.bn.running_var"] = rng.uniform(0.5, 1.5, width)
        inner = width
    found["lc.weight"] = rng.standard_normal((classes, width))
    found["lc.bias"] = rng.standard_normal(classes)
    return {name: value.astype(np.float32) for name, value in found.items()}
