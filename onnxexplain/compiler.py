"""The way back as ONNX nodes, appended to the model: prediction and explanation in one graph."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxexplain.graph import Lowered, weightless
from onnxexplain.tensor import Symbol, Tape

PREFIX = "onnxexplain/"
TARGET = f"{PREFIX}target"
SEED = f"{PREFIX}seed"

Answer = Callable[[Tape, dict[str, Symbol], Symbol], Iterator[tuple[str, Symbol]]]
"""Writes one explanation: given tape, the model's tensors and the seed, yields named results."""


@dataclass(frozen=True)
class Compiled:
    """A model that explains itself, and the output that holds each result of each class."""

    proto: onnx.ModelProto
    """Its large weights are only named."""
    weights: dict[str, np.ndarray[Any, Any]]
    """Where they lie: the constants of the lowered model, and those of the way back."""
    outputs: dict[tuple[int, str], str]
    shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def compile_graph(
    lowered: Lowered,
    output: str,
    answer: Answer,
    *,
    classes: int,
    seeded: bool,
    blocked: bool,
    ties: str,
    kept: Sequence[str] = (),
) -> Compiled:
    """Append to the lowered model what explains ``classes`` targets of its tensor ``output``.

    The classes share every mask and nothing else: unrolled branches of the same graph are faster
    than a batch of them, whose working set is as many times larger. The targets arrive in the input
    ``onnxexplain/target`` [T,N] (-1 for the strongest class), or, where ``seeded``, as linear
    combinations of the output in ``onnxexplain/seed`` [T,N,...]. ``kept`` names tensors of the
    model that are returned as they are.
    """
    tape = Tape(PREFIX, blocked=blocked, ties=ties)
    values = _symbols(tape, lowered)
    score = values[output]
    seeds, given = _seeds(tape, score, classes, seeded)
    outputs: dict[tuple[int, str], str] = {}
    shapes = {}
    for t, seed in enumerate(seeds):
        for name, symbol in answer(tape, values, seed):
            made = tape.written(symbol)
            if made in shapes or not made.startswith(PREFIX) or made in tape.initializers:
                made = f"{PREFIX}{t}/{name}"  # an output must be some node's, and only once
                tape.nodes.append(helper.make_node("Identity", [str(symbol.name)], [made], made))
            outputs[t, name] = made
            shapes[made] = (symbol.shape, symbol.dtype)
    proto = _append(lowered, tape, given, [*outputs.values()], shapes, [output, *kept])
    return Compiled(proto, lowered.constants | tape.initializers, outputs, shapes)


def _symbols(tape: Tape, lowered: Lowered) -> dict[str, Symbol]:
    finite = _finite(lowered)
    values = {
        name: tape.tensor(
            name,
            shape,
            np.float32 if name in lowered.floats else np.int64,
            finite=name in finite,
        )
        for name, shape in lowered.shapes.items()
    }
    for name, array in lowered.constants.items():
        values[name] = tape.tensor(name, array.shape, array.dtype, array)
    return values


_STEADY = frozenset(
    (
        "Conv ConvTranspose Gemm MatMul Add Sub Mul Sum Neg Relu LeakyRelu Clip Sigmoid Tanh "
        "MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization Concat Flatten "
        "FakeQuantize Reshape Transpose Squeeze Unsqueeze Pad Identity Cast ReduceMean ReduceSum "
        "Softmax Resize DepthToSpace SpaceToDepth Col2Im AffineGrid GridSample RoiAlign "
        "DeformConv MaxUnpool ReduceMax ReduceMin LogSoftmax Einsum CumSum Gelu "
        "LayerNormalization RMSNormalization InstanceNormalization GroupNormalization LRN"
    ).split()
)
"""Operators that make finite of finite."""


def _finite(lowered: Lowered) -> set[str]:
    """Return the tensors that hold no infinity (inputs were checked when they were read)."""
    finite = {value.name for value in lowered.proto.graph.input}
    numbers = {n: v for n, v in lowered.constants.items() if v.dtype.kind in "biuf"}
    finite |= {name for name, value in numbers.items() if np.all(np.abs(value) < 1e30)}
    for node in lowered.nodes:
        if node.op_type in _STEADY and all(t in finite for t in node.inputs if t):
            finite.update(node.outputs)
    return finite


def _seeds(
    tape: Tape, score: Symbol, classes: int, seeded: bool
) -> tuple[list[Symbol], list[onnx.ValueInfoProto]]:
    """Return one seed per class, and the graph input they come from."""
    n = score.shape[0] if score.shape else 1
    if seeded:
        shape = (classes, *score.shape)
        given = tape.tensor(SEED, shape, score.dtype)
        info = helper.make_tensor_value_info(SEED, onnx.TensorProto.FLOAT, shape)
        tape.zero = _late_zero(tape, given, score, n)
        return _rows(tape, given, classes, score.shape), [info]
    given = tape.tensor(TARGET, (classes, n), np.int64)
    info = helper.make_tensor_value_info(TARGET, onnx.TensorProto.INT64, (classes, n))
    cast = tape.op("Cast", given, shape=given.shape, dtype=np.float32, to=onnx.TensorProto.FLOAT)
    tape.zero = _late_zero(tape, cast, score, n)
    top = _strongest(tape, score)
    none = tape.constant(np.array(0, np.int64))
    seeds = []
    for row in _rows(tape, given, classes, (n,)):
        open_ = tape.op("Less", row, none, shape=(n,), dtype=bool)
        index = tape.op("Where", open_, top, row, shape=(n,), dtype=np.int64)
        seeds.append(_one_hot(tape, index, score))
    return seeds, [info]


def _rows(tape: Tape, given: Symbol, classes: int, shape: Sequence[int]) -> list[Symbol]:
    if classes == 1:
        return [tape.reshape(given, shape)]
    rows = [((1, *given.shape[1:]), given.dtype)] * classes
    parts = tape.ops("Split", given, shapes=rows, axis=0, num_outputs=classes)
    return [tape.reshape(part, shape) for part in parts]


def _late_zero(tape: Tape, given: Symbol, score: Symbol, n: int) -> Symbol:
    """A zero [N,1,1,1] made of an input, so that nothing added to it is folded beforehand."""
    axes = list(range(given.ndim))
    zero = tape.op("Mul", tape.sum(given, axis=axes), tape.constant(0, np.float32), shape=())
    return tape.op("Expand", zero, tape.ints([n, 1, 1, 1]), shape=(n, 1, 1, 1))


def _strongest(tape: Tape, score: Symbol) -> Symbol:
    total = tape.sum(score, axis=list(range(2, score.ndim))) if score.ndim > 2 else score
    return tape.op("ArgMax", total, shape=(score.shape[0],), dtype=np.int64, axis=1, keepdims=0)


def _one_hot(tape: Tape, index: Symbol, score: Symbol) -> Symbol:
    many = tape.constant(np.array(score.shape[1], np.int64))
    values = tape.constant(np.array([0, 1], np.float32))
    flat = tape.op("OneHot", index, many, values, shape=score.shape[:2], dtype=np.float32, axis=1)
    column = tape.reshape(flat, (*score.shape[:2], *(1,) * (score.ndim - 2)))
    return tape.expand_like(column, score)


def _append(
    lowered: Lowered,
    tape: Tape,
    given: list[onnx.ValueInfoProto],
    made: list[str],
    shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]],
    kept: list[str],
) -> onnx.ModelProto:
    """Return the model with the tape's nodes behind its own, and what was asked for as outputs."""
    proto = weightless.lying_outside(lowered.proto)
    graph = proto.graph
    graph.node.extend(_needed(tape.nodes, set(made)))
    weightless.hold(graph, tape.initializers)
    graph.input.extend(given)
    del graph.output[:]
    for name in kept:
        kind = onnx.TensorProto.FLOAT if name in lowered.floats else onnx.TensorProto.INT64
        graph.output.append(helper.make_tensor_value_info(name, kind, lowered.shapes.get(name)))
    for name in made:
        shape, dtype = shapes[name]
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    return proto


def _needed(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Drop what nothing reads: rules write freely."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
