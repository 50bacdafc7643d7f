"""The model as a table: what each node is, makes, holds and costs."""

import contextlib
import math

import onnx

from onnxexplain.graph.inference import inferred
from onnxexplain.graph.node import Node
from onnxexplain.graph.receptive_field import receptive_fields


def summarise(proto: onnx.ModelProto, nodes: tuple[Node, ...]) -> str:
    """Return a table of nodes with output shape, parameters, multiply-adds and receptive field.

    Shared weights are counted once, at their first use; the running statistics of batch
    normalisations, which no gradient moves, are told apart at the end. Multiply-adds count one per
    weight and output position, without biases.
    """
    shapes = static_shapes(proto)
    weights = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    inputs = [v.name for v in proto.graph.input if v.name not in weights]
    source = next((n for n in inputs if len(shapes.get(n, ())) > 2), "")
    fields = receptive_fields(nodes, shapes | weights, source) if source else {}
    counted: set[str] = set()
    rows, total, work, statistics = [], 0, 0, 0
    for node in nodes:
        own = {t for t in node.inputs if t in weights} - counted
        counted |= own
        parameters = sum(math.prod(weights[t]) for t in own)
        cost = _multiply_adds(node, weights, shapes)
        total, work = total + parameters, work + cost
        if node.op_type == "BatchNormalization":
            statistics += sum(math.prod(weights[t]) for t in own.intersection(node.inputs[3:5]))
        first = node.outputs[0] if node.outputs else ""
        field = fields.get(first)
        seen = "x".join(f"{axis.size:g}" for axis in field) if field else ""
        shape = "x".join(map(str, shapes[first])) if first in shapes else "?"
        rows.append((node.name, node.kind, shape, _count(parameters), _count(cost), seen))
    head = ("node", "kind", "output", "parameters", "multiply-adds", "receptive field")
    tail = ("total", f"{len(nodes)} nodes", "", f"{total:,}", f"{work:,}", "")
    table = _table([head, *rows, tail])
    if not statistics:
        return table
    return f"{table}\n{total - statistics:,} without the {statistics:,} running statistics"


def static_shapes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that inference finds; a free dimension counts as 1."""
    # A table without shapes is still a table.
    with contextlib.suppress(onnx.shape_inference.InferenceError, RuntimeError):
        proto = inferred(proto)
    values = [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]
    shapes = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    for value in values:
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(d.dim_value or 1 for d in kind.shape.dim)
    return shapes


def _multiply_adds(
    node: Node, weights: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]
) -> int:
    held = [weights[t] for t in node.inputs[1:2] if t in weights]
    if not held:
        return 0
    out = shapes.get(node.outputs[0], ())
    if node.op_type in ("Conv", "ConvTranspose"):
        return math.prod(held[0]) * math.prod(out[2:])
    return math.prod(held[0]) if node.op_type in ("Gemm", "MatMul") else 0


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = (0, 1, 2)
    lines = []
    for row in rows:
        cells = [
            c.ljust(w) if i in left else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
