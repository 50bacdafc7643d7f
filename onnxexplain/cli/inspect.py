"""``inspect``: what is in a model, and whether it can be explained."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxexplain.cli import options as o
from onnxexplain.cli.console import answer, as_flags, existing, told

if TYPE_CHECKING:
    from onnxexplain import Model

WAYS = {
    "linear": "transposed weights; the bias is its constant",
    "sum": "to every addend; an addend that is fixed is its constant",
    "product": "to both factors; what is counted twice is its constant",
    "activation": "slope at the point; the rest of the value is its constant",
    "normalisation": "derivative; the shift is its constant",
    "softmax": "derivative; the rest of the value is its constant",
    "pooling": "to the winner, or in proportion",
    "routing": "handed on",
    "reduction": "to every element",
    "recurrent": "step by step",
    "stop": "nothing comes back",
    "spelled out": "written in other operators of the standard first",
    "taken apart": "by its definition in the standard",
}
"""How score goes back through an operator of each role, in a few words."""


@told
def inspect(
    model: o.Model,
    set_metadata: o.SetMetadata = None,
    plugin: o.Plugin = None,
    device: o.Device = "auto",
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    version: o.Version = False,
) -> None:
    """Show a model's nodes, its inputs and outputs, and how each operator is explained.

    With --set-metadata the file is given its labels or its preprocessing first.
    """
    import onnxexplain
    from onnxexplain.cli import given as g
    from onnxexplain.cli.metadata import set_metadata as write

    g.plugins(plugin)
    if set_metadata:
        write(existing(model), set_metadata)
    loaded = onnxexplain.load(existing(model))
    record = _record(loaded, model)
    if json:
        answer(record)
    elif not quiet:
        print(loaded.summary())
        _show(record)


def _record(model: "Model", path: Path) -> dict[str, Any]:
    from onnxexplain.errors import OnnxExplainError
    from onnxexplain.methods import way

    problem, output = None, None
    try:
        output = way.scores(model, None)
        way.check(model, output)
    except OnnxExplainError as error:
        problem = as_flags(str(error))
    return {
        "model": str(path),
        "sha256": model.sha256,
        "opset": model.opset,
        "ir_version": model.proto.ir_version,
        "producer": " ".join(
            p for p in (model.proto.producer_name, model.proto.producer_version) if p
        ),
        "inputs": [_tensor(i) for i in model.inputs.values()],
        "outputs": [_tensor(i) for i in model.outputs.values()],
        "explained_output": output,
        "explainable": problem is None,
        "problem": problem,
        "operators": _operators(model),
        "unsupported": _unsupported(model),
        "labels": model.labels,
        "preprocess": model.preprocess,
        "metadata": model.metadata,
    }


def _tensor(info: Any) -> dict[str, Any]:
    shape = None if info.shape is None else list(info.shape)
    return {"name": info.name, "dtype": info.dtype, "shape": shape}


def _operators(model: "Model") -> list[dict[str, Any]]:
    """Every operator type: how often, its role, how score goes back through it."""
    from onnxexplain.ops import find

    rows = []
    for (domain, op_type), count in Counter((n.domain, n.op_type) for n in model.nodes).items():
        operator = find(domain, op_type)
        role = operator.role if operator else _role_without(model, domain, op_type)
        back = WAYS.get(role, role)
        rows.append(
            {"op": op_type, "domain": domain, "count": count, "role": role, "way_back": back}
        )
    return sorted(rows, key=lambda row: (-int(str(row["count"])), str(row["op"])))


def _role_without(model: "Model", domain: str, op_type: str) -> str:
    """What becomes of an operator that has no way back of its own."""
    from onnxexplain.graph import defined, spelled

    if op_type in ("Constant", "Dropout"):
        return "removed before"
    if op_type in {f.name for f in model.proto.functions}:
        return "taken apart: a function of the file"
    if not domain and op_type in ("RNN", "GRU", "LSTM"):
        return "recurrent"
    if spelled(domain, op_type) or op_type == "Upsample":
        return "spelled out"
    return "taken apart" if defined(domain, op_type, set()) else "none"


def _unsupported(model: "Model") -> list[dict[str, Any]]:
    """The nodes between a float input and an output that nothing is known of."""
    import networkx as nx

    graph = model.graph
    sources = [n for n, d in graph.nodes(data=True) if d["kind"] == "input"]
    ends = [n for n, d in graph.nodes(data=True) if d["kind"] == "output"]
    after = set().union(*(nx.descendants(graph, n) for n in sources))
    before = set().union(*(nx.ancestors(graph, n) for n in ends))
    missing = {row["op"] for row in _operators(model) if row["role"] == "none"}
    return [
        {"node": node.name, "op": node.op_type, "domain": node.domain}
        for node in model.nodes
        if node.op_type in missing and node.name in after & before
    ]


# ----- For a person -----


def _show(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True, markup=False)
    maker = f", made by {record['producer']}" if record["producer"] else ""
    console.print(f"\nopset {record['opset']}, IR {record['ir_version']}{maker}")
    for side in ("inputs", "outputs"):
        for tensor in record[side]:
            console.print(f"{side[:-1]} `{tensor['name']}`: {tensor['dtype']} {_shape(tensor)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("operator", "nodes", "role", "how score goes back through it"):
        table.add_column(column, justify="right" if column == "nodes" else "left")
    for row in record["operators"]:
        name = f"{row['domain']}.{row['op']}" if row["domain"] else row["op"]
        table.add_row(name, str(row["count"]), row["role"], row["way_back"])
    console.print()
    console.print(table)
    console.print()
    for key, value in record["metadata"].items():
        console.print(f"metadata {key}: {value if len(value) < 300 else value[:300] + ' ...'}")
    for node in record["unsupported"]:
        console.print(f"no way back through {node['op']} (node `{node['node']}`)")
    if record["explainable"]:
        console.print(f"explained by default: `{record['explained_output']}`")
    else:
        console.print(f"cannot be explained: {record['problem']}")


def _shape(tensor: dict[str, Any]) -> str:
    if tensor["shape"] is None:
        return "of any shape"
    return "[" + ", ".join("?" if d is None else str(d) for d in tensor["shape"]) + "]"
