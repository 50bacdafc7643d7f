"""Scan of opset 8, which ran sample by sample, as the Scan of today, which knows no samples."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxexplain.errors import ModelError
from onnxexplain.graph.inference import inferred


def found(
    model: onnx.ModelProto,
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto]]:
    """Return copies of every Scan, and of the model's inputs.

    ONNX's converter takes an axis off whatever a Scan reads, and forgets what it does not know the
    shape of.

    Raises
    ------
    ModelError
        if a Scan is told how long each sample is.
    """
    scans = []
    for node in model.graph.node:
        if node.op_type == "Scan" and node.domain in ("", "ai.onnx"):
            if node.input[0]:
                raise ModelError(
                    f"Scan (node `{node.name}`) is of opset 8 and has `sequence_lens`; "
                    "export the model again with a newer opset"
                )
            scans.append(onnx.NodeProto.FromString(node.SerializeToString()))
    values = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in model.graph.input]
    return scans, values


def by_sample(
    model: onnx.ModelProto,
    scans: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
) -> None:
    """Give every sample its own Scan: axis 0 of what goes in and of what comes out.

    Raises
    ------
    ModelError
        if the number of samples is not known.
    """
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    before = {tuple(scan.output): scan.input[1:] for scan in scans}
    nodes = []
    for node in model.graph.node:
        if tuple(node.output) in before:
            node.input[:] = before[tuple(node.output)]
            nodes += _apart(model.graph, node, _samples(model, node))
        else:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _samples(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    graph = inferred(model).graph
    sizes = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        sizes[value.name] = [d.dim_value for d in dims]
    many = sizes.get(node.input[-1], [])
    if not many or not many[0]:
        raise ModelError(
            f"Scan (node `{node.name}`) is of opset 8, and how many samples it runs over is not "
            "known beforehand; export the model again with a newer opset"
        )
    return int(many[0])


def _apart(graph: onnx.GraphProto, node: onnx.NodeProto, samples: int) -> list[onnx.NodeProto]:
    written, parts = [], []
    for n in range(samples):
        at = numpy_helper.from_array(np.array(n), f"{node.name}/sample_{n}")
        graph.initializer.append(at)
        one = onnx.NodeProto()
        one.CopyFrom(node)
        one.name = f"{node.name}/{n}"
        for names, ends in ((one.input, "before"), (one.output, "after")):
            names[:] = [f"{one.name}/{ends}_{slot}" if t else "" for slot, t in enumerate(names)]
        for a in one.attribute:
            if a.name == "directions":
                a.name = "scan_input_directions"
        for whole, mine in zip(node.input, one.input, strict=True):
            written.append(helper.make_node("Gather", [whole, at.name], [mine], mine, axis=0))
        written.append(one)
        parts.append(one.output)
    axis = numpy_helper.from_array(np.array([0]), f"{node.name}/samples")
    graph.initializer.append(axis)
    for whole, *each in zip(node.output, *parts, strict=True):
        rows = [f"{t}/row" for t in each]
        for t, row in zip(each, rows, strict=True):
            written.append(helper.make_node("Unsqueeze", [t, axis.name], [row], row))
        if whole:
            written.append(helper.make_node("Concat", rows, [whole], f"{whole}/rows", axis=0))
    return written
