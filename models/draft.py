"""An ONNX file in the making, for networks whose weights are at hand as NumPy arrays.

Nodes and tensors get the names that torch's exporter would give them: the convolution of layer
`features.conv0` is `/features/conv0/Conv`, and what it gives `/features/conv0/Conv_output_0`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxexplain.save import write_whole

OPSET = 18


class Draft:
    """Collects nodes and weights in the order in which they are computed."""

    def __init__(self, name: str, weights: Mapping[str, np.ndarray]) -> None:
        self.name, self.weights = name, weights
        self.nodes: list[onnx.NodeProto] = []
        self.held: dict[str, onnx.TensorProto] = {}

    def add(self, op: str, layer: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of a layer and return the name of what it gives."""
        node = f"/{layer.replace('.', '/')}/{op}"
        self.nodes.append(helper.make_node(op, inputs, [f"{node}_output_0"], node, **attributes))
        return f"{node}_output_0"

    def hold(self, name: str) -> list[str]:
        """Store a weight as float32 and return its name; nothing if the layer has none such."""
        if name not in self.weights:
            return []
        value = np.ascontiguousarray(self.weights[name], np.float32)
        self.held[name] = numpy_helper.from_array(value, name)
        return [name]

    # ----- Layers -----

    def conv(self, layer: str, x: str, stride: int = 1) -> str:
        """Convolve with padding that keeps the size, or what the stride leaves of it."""
        side = self.weights[f"{layer}.weight"].shape[-1]
        held = self.hold(f"{layer}.weight") + self.hold(f"{layer}.bias")
        return self.add(
            "Conv",
            layer,
            x,
            *held,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[side // 2] * 4,
        )

    def norm(self, layer: str, x: str, epsilon: float = 1e-5) -> str:
        """Normalise as the network does once it is trained."""
        fields = ("weight", "bias", "running_mean", "running_var")
        held = [name for field in fields for name in self.hold(f"{layer}.{field}")]
        return self.add("BatchNormalization", layer, x, *held, epsilon=epsilon)

    def linear(self, layer: str, x: str) -> str:
        """Weigh the features of each sample."""
        held = self.hold(f"{layer}.weight") + self.hold(f"{layer}.bias")
        return self.add("Gemm", layer, x, *held, transB=1)

    def pool(self, op: str, layer: str, x: str, side: int, stride: int, pad: int = 0) -> str:
        """Reduce windows: MaxPool or AveragePool."""
        return self.add(
            op, layer, x, kernel_shape=[side, side], strides=[stride, stride], pads=[pad] * 4
        )

    # ----- File -----

    def write(
        self,
        path: Path,
        shape: Sequence[int],
        scores: str,
        *,
        output: str = "logits",
        labels: Sequence[str],
        preprocess: Mapping[str, Any],
        note: str,
    ) -> None:
        """Write the file: `input` [N, *shape] to `output` [N, labels], and what is said of it."""
        nodes = [*self.nodes, helper.make_node("Identity", [scores], [output], f"/{output}")]
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            self.name,
            [helper.make_tensor_value_info("input", kind, ["N", *shape])],
            [helper.make_tensor_value_info(output, kind, ["N", len(labels)])],
            list(self.held.values()),
        )
        opset = [helper.make_opsetid("", OPSET)]
        proto = helper.make_model(
            graph, opset_imports=opset, ir_version=9, producer_name="onnxexplain"
        )
        properties = {
            "onnxexplain.preprocess": json.dumps(dict(preprocess)),
            "onnxexplain.labels": json.dumps(list(labels)),
            "onnxexplain.note": note,
        }
        helper.set_model_props(proto, properties)
        onnx.checker.check_model(proto, full_check=True)
        write_whole(path, proto.SerializeToString(deterministic=True))


def wilson(right: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, JASA 1927)."""
    z = 1.959964
    share, widen = right / of, 1 + z * z / of
    middle = (share + z * z / (2 * of)) / widen
    half = z * ((share * (1 - share) + z * z / (4 * of)) / of) ** 0.5 / widen
    return middle - half, middle + half
