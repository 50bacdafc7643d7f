"""The user's own model: the file, what goes in and out, and its graph before any lowering."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import networkx as nx
import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)

from onnxexplain.errors import ModelError, first_line
from onnxexplain.graph.node import Node, array, read_nodes
from onnxexplain.graph.summary import summarise

Shape = tuple[int | str | None, ...]


@dataclass(frozen=True)
class ValueInfo:
    """A named tensor: its dtype as NumPy calls it, its shape with names for free dimensions."""

    name: str
    dtype: str
    shape: Shape | None


class Model:
    """An ONNX model as its owner knows it; nothing here changes it.

    Made by :func:`onnxexplain.load`. ``role`` says what an operator type does (``linear``,
    ``activation``, ...); it is handed in because the graph knows names only.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        source: str = "model",
        sha256: str = "",
        role: Callable[[str, str], str] = lambda domain, op_type: "",
    ) -> None:
        self.proto = proto
        self.source = source
        self.sha256 = sha256
        self._role = role

    def __repr__(self) -> str:
        return f"<Model {self.source}: {len(self.nodes)} nodes, opset {self.opset}>"

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the main graph, in the order of the file."""
        return read_nodes(self.proto.graph)

    @property
    def opset(self) -> int:
        """The opset of the default domain."""
        return max(
            (o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx")), default=1
        )

    @cached_property
    def inputs(self) -> dict[str, ValueInfo]:
        """The tensors a caller must give; weights listed as inputs are none of them."""
        weights = {t.name for t in self.proto.graph.initializer}
        return {v.name: _info(v) for v in self.proto.graph.input if v.name not in weights}

    @cached_property
    def outputs(self) -> dict[str, ValueInfo]:
        """The tensors the model returns."""
        return {v.name: _info(v) for v in self.proto.graph.output}

    @property
    def metadata(self) -> dict[str, str]:
        """The file's own metadata properties."""
        return {p.key: p.value for p in self.proto.metadata_props}

    @property
    def labels(self) -> list[str] | None:
        """Names of the classes, where the file's metadata carries them (`onnxexplain.labels`)."""
        labels: list[Any] | None = self._json("onnxexplain.labels", list)
        return None if labels is None else [str(label) for label in labels]

    @property
    def preprocess(self) -> dict[str, Any] | None:
        """How a photograph becomes an input, where the file's metadata says so."""
        record: dict[str, Any] | None = self._json("onnxexplain.preprocess", dict)
        return record

    @cached_property
    def graph(self) -> nx.MultiDiGraph:
        """The user's own graph, before any lowering.

        A node is a vertex with ``op``, ``kind``, ``role``, ``domain`` and ``attributes``; each
        input and output of the model is one of kind ``input`` or ``output``. An edge carries
        ``tensor`` and ``slot`` (which input of the later node it is), so that ``Mul(x, x)`` keeps
        its two edges. Weights are no vertices: a node lists them in ``weights``.
        """
        return _draw(self)

    def summary(self) -> str:
        """Return a table of the nodes: kind, shape, parameters, multiply-adds, receptive field."""
        return summarise(self.proto, self.nodes)

    def _json(self, key: str, kind: type) -> Any:
        text = self.metadata.get(key)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ModelError(f"{self.source}: metadata `{key}` is not JSON ({error})") from error
        if not isinstance(value, kind):
            raise ModelError(f"{self.source}: metadata `{key}` must be a JSON {kind.__name__}")
        return value


def load(
    source: str | Path | bytes | onnx.ModelProto | Model,
    role: Callable[[str, str], str] = lambda domain, op_type: "",
) -> Model:
    """Read a model from a path, from bytes, or take a ``ModelProto``.

    Weights in external files are read only from the model's own folder.

    Raises
    ------
    ModelError
        if it is no ONNX model, is cut short, is inconsistent, or points outside its folder.
    """
    if isinstance(source, Model):
        return source
    if not isinstance(source, str | Path | bytes | onnx.ModelProto):
        raise ModelError(f"a model is a path, bytes or a ModelProto, not {type(source).__name__}")
    if isinstance(source, onnx.ModelProto):
        content = source.SerializeToString(deterministic=True)
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        name = copy.graph.name or "model"
        _bring_external(copy, None, name)
        _check(copy, name)
        return Model(copy, name, hashlib.sha256(content).hexdigest(), role)
    name, content, folder = _read(source)
    proto = _parse(content, name)
    _bring_external(proto, folder, name)
    _check(proto, name)
    return Model(proto, name, hashlib.sha256(content).hexdigest(), role)


def _read(source: str | Path | bytes) -> tuple[str, bytes, Path | None]:
    if isinstance(source, bytes):
        return "model", source, None
    path = Path(source)
    try:
        return str(path), path.read_bytes(), path.parent
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _parse(content: bytes, name: str) -> onnx.ModelProto:
    advice = f"{name}: not an ONNX model, or cut short ({len(content):,} bytes)"
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(advice) from error
    if not proto.graph.node:
        raise ModelError(f"{advice}: it has no nodes")
    return proto


def _bring_external(proto: onnx.ModelProto, folder: Path | None, name: str) -> None:
    """Load weights kept in other files, none of which may lie outside the model's folder."""
    nodes = [node for function in proto.functions for node in function.node]
    tensors = [t for t in _tensors(proto.graph, nodes) if uses_external_data(t)]
    if not tensors:
        return
    if folder is None:
        raise ModelError(f"{name}: tensor `{tensors[0].name}` lies in another file; give the path")
    for tensor in tensors:
        _inside(folder, ExternalDataInfo(tensor).location, f"{name}: tensor `{tensor.name}`")
    try:
        load_external_data_for_model(proto, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{name}: external weights cannot be read ({first_line(error)})"
        ) from error


def _tensors(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph and of the nodes, those of inner graphs too."""
    yield from graph.initializer
    for node in [*graph.node, *nodes]:
        for a in node.attribute:
            yield from [a.t] if a.HasField("t") else a.tensors
            for inner in [a.g] if a.HasField("g") else a.graphs:
                yield from _tensors(inner, ())


def _inside(folder: Path, location: str, where: str) -> None:
    pure = PurePosixPath(location)
    leaves = pure.is_absolute() or PureWindowsPath(location).is_absolute() or ".." in pure.parts
    path = folder / location
    if leaves or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{where} points outside the model's folder (`{location}`); refused")
    if not path.is_file():
        raise ModelError(f"{where} lies in `{location}`, which is missing beside the model")


def _check(proto: onnx.ModelProto, name: str) -> None:
    """Refuse a graph whose tensors do not hang together, before anything runs it."""
    graph = proto.graph
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    known |= {t.values.name for t in graph.sparse_initializer}
    for tensor in graph.initializer:
        array(tensor)
    for node in read_nodes(graph):
        for tensor in node.inputs:
            if tensor and tensor not in known:
                raise ModelError(f"{name}: {node} reads `{tensor}`, which nothing before it makes")
        known.update(node.outputs)
    missing = [v.name for v in graph.output if v.name not in known]
    if missing:
        raise ModelError(f"{name}: nothing makes the output `{missing[0]}`")
    if not graph.output:
        raise ModelError(f"{name}: the model has no output")


def _info(value: onnx.ValueInfoProto) -> ValueInfo:
    kind = value.type.tensor_type
    shape: Shape | None = None
    if kind.HasField("shape"):
        shape = tuple(_dimension(d) for d in kind.shape.dim)
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        dtype = "unknown"
    return ValueInfo(value.name, dtype, shape)


def _dimension(d: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return d.dim_value if d.HasField("dim_value") else d.dim_param or None


def _draw(model: Model) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(name=model.source)
    weights = {t.name for t in model.proto.graph.initializer}
    names = {node.name for node in model.nodes}
    maker: dict[str, str] = {}
    for name in model.inputs:
        vertex = name if name not in names else f"input:{name}"
        graph.add_node(vertex, op="Input", kind="input", role="input", domain="", attributes={})
        maker[name] = vertex
    for node in model.nodes:
        held = {slot: t for slot, t in enumerate(node.inputs) if t in weights}
        graph.add_node(
            node.name,
            op=node.op_type,
            kind=node.kind,
            role=model._role(node.domain, node.op_type),
            domain=node.domain,
            attributes=node.attributes,
            weights=held,
        )
        for slot, tensor in enumerate(node.inputs):
            if tensor in maker:
                graph.add_edge(maker[tensor], node.name, tensor=tensor, slot=slot)
        maker.update((t, node.name) for t in node.outputs if t)
    for name in model.outputs:
        vertex = name if name not in graph else f"output:{name}"
        graph.add_node(vertex, op="Output", kind="output", role="output", domain="", attributes={})
        if name in maker:
            graph.add_edge(maker[name], vertex, tensor=name, slot=0)
    return graph
