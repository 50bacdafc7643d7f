"""The two engines: the way back as ONNX nodes behind the model, or on captured activations."""

from dataclasses import replace
from typing import Any

import numpy as np

from onnxexplain import compiler
from onnxexplain.compiler import Compiled
from onnxexplain.errors import ModelError, OnnxExplainError
from onnxexplain.graph import Node
from onnxexplain.graph.cut import behind, fed
from onnxexplain.head import Head
from onnxexplain.methods import Way, on_cpu
from onnxexplain.methods.answer import Request, answer
from onnxexplain.prepared import Prepared, Question
from onnxexplain.results import Results
from onnxexplain.runtime import Session
from onnxexplain.runtime.capture import cupy, on_gpu
from onnxexplain.target import Aim, read
from onnxexplain.tensor import Arrays, Symbol, Tape

Array = np.ndarray[Any, Any]

TOGETHER = 8
"""So many classes share a run, and its masks; of more, one run follows the other."""

SESSIONS = 8
"""Compiled sessions kept per input shape; the oldest goes first."""


def compiled(
    question: Question,
    prepared: Prepared,
    feeds: dict[str, Array],
    target: Any,
    targets: Any,
    request: Request,
) -> Results:
    """Run prediction and explanation as one ONNX graph."""
    shape = prepared.lowered.shapes[question.output]
    aims = read(target, targets, question.against, shape, question.labels)
    seeded = len(shape) < 2 or any(aim.seed is not None for aim in aims)
    if seeded:
        name, rows = compiler.SEED, _seeds(question, prepared, feeds, aims)
    else:
        classes = [c for aim in aims if (c := aim.classes) is not None]
        name, rows = compiler.TARGET, np.stack(classes)
    together = min(len(aims), TOGETHER)
    graph, running = session(question, prepared, together, seeded, request)
    raw = _room(graph, len(aims), together)
    kept = _kept(question, prepared, request)
    values: dict[str, Array] = {}
    for start in range(0, len(aims), together):
        # The last run is filled up with the last target, so that one graph serves them all.
        chosen = np.minimum(np.arange(start, start + together), len(aims) - 1)
        part = {n: v[start : start + together] for n, v in raw.items()}
        values = _run(graph, running, feeds | {name: rows[chosen]}, kept, part)
    raw = {n: v[: len(aims)] for n, v in raw.items()}
    return _results(question, raw, values, aims, several=targets is not None)


def eager(
    question: Question,
    prepared: Prepared,
    feeds: dict[str, Array],
    target: Any,
    targets: Any,
    request: Request,
) -> Results:
    """Run the rules on arrays, NumPy's on the CPU and CuPy's on CUDA."""
    values = _values(question, prepared, feeds, request)
    xp = Arrays(cupy() if question.device.kind == "cuda" else np, question.ties)
    scores = on_cpu(values[question.output])
    aims = read(target, targets, question.against, scores.shape, question.labels)
    rows: dict[str, list[Array]] = {}
    for aim in aims:
        seed = xp.module.asarray(aim.seeds(scores))
        way = prepared.way(values, xp, question.output, seed)
        if question.method.heads:
            way = _headed(question, prepared, feeds, way)
        for name, value in answer(way, question.method, request):
            rows.setdefault(name, []).append(on_cpu(value))
    raw = {name: np.stack(parts) for name, parts in rows.items()}
    kept = {name: on_cpu(values[name]) for name in _kept(question, prepared, request)}
    return _results(question, raw, kept, aims, several=targets is not None)


# ----- Compiled -----


def session(
    question: Question, prepared: Prepared, classes: int, seeded: bool, request: Request
) -> tuple[Compiled, Session]:
    """Return the graph for so many classes and this request, compiled when it is first needed."""
    key = (classes, seeded, request)
    with prepared.lock:
        if key not in prepared.sessions:
            try:
                graph = _compile(question, prepared, classes, seeded, request)
            except OnnxExplainError:
                raise
            except (ValueError, TypeError, IndexError) as error:
                Session(prepared.lowered.proto, question.device)  # says so if the file is at fault
                where = question.model.source
                raise ModelError(
                    f"{where}: the shapes of a node's tensors do not fit ({error})"
                ) from error
            running = Session(graph.proto, question.device, weights=graph.weights)
            while len(prepared.sessions) >= SESSIONS:
                prepared.sessions.pop(next(iter(prepared.sessions)))
            prepared.sessions[key] = graph, running
        return prepared.sessions[key]


def _compile(
    question: Question, prepared: Prepared, classes: int, seeded: bool, request: Request
) -> Compiled:
    def write(tape: Tape, values: dict[str, Symbol], seed: Symbol) -> Any:
        way = prepared.way(values, tape, question.output, seed)
        return answer(way, question.method, request)

    return compiler.compile_graph(
        prepared.lowered,
        question.output,
        write,
        classes=classes,
        seeded=seeded,
        blocked=question.device.kind == "cpu",
        ties=question.ties,
        kept=_kept(question, prepared, request)[1:],
    )


def _room(graph: Compiled, classes: int, together: int) -> dict[str, Array]:
    """Return an array [T,...] for every result, T a multiple of how many run together."""
    runs = -(-classes // together)
    room = {}
    for name in dict.fromkeys(name for _, name in graph.outputs):
        shape, dtype = graph.shapes[graph.outputs[0, name]]
        room[name] = np.empty((runs * together, *shape), dtype)
    return room


def _run(
    graph: Compiled,
    session: Session,
    inputs: dict[str, Array],
    kept: list[str],
    room: dict[str, Array],
) -> dict[str, Array]:
    """Run a compiled graph, each result written where it will stay; return the kept tensors."""
    filled = {made: room[name][t] for (t, name), made in graph.outputs.items()}
    rest = [name for name in kept if name not in inputs]
    values = dict(zip(rest, session.run_into(inputs, filled, rest), strict=True))
    return values | {name: inputs[name] for name in kept if name in inputs}


def _seeds(
    question: Question, prepared: Prepared, feeds: dict[str, Array], aims: list[Aim]
) -> Array:
    """Return one linear combination of the output per aim."""
    output = question.output
    scores: Array = np.zeros(prepared.lowered.shapes[output], np.float32)
    if any(aim.undecided for aim in aims):
        scores = question.forward(prepared, feeds, [output], question.cpu)[output]
    return np.stack([aim.seeds(scores) for aim in aims])


# ----- Eager -----


def _values(
    question: Question, prepared: Prepared, feeds: dict[str, Array], request: Request
) -> dict[str, Any]:
    """Return every tensor that the way back may read."""
    lowered = prepared.lowered
    nodes = _behind(question, prepared) if question.method.heads else prepared.nodes
    read = {t for node in nodes for t in (*node.inputs, *node.outputs) if t}
    read |= {question.output, *prepared.wrt, *request.layers}
    if question.method.heads:
        read |= set(fed(lowered.nodes, feeds, str(prepared.layer), question.output))
    constants = {name: lowered.constants[name] for name in read & set(lowered.constants)}
    wanted = sorted(read - set(constants))
    found = question.forward(prepared, feeds, wanted, question.device)
    return found | (on_gpu(constants) if question.device.kind == "cuda" else constants)


def _behind(question: Question, prepared: Prepared) -> list[Node]:
    """All that follows the layer, what has no way back included."""
    return behind(prepared.lowered.nodes, str(prepared.layer), question.output)


def _headed(question: Question, prepared: Prepared, feeds: dict[str, Array], way: Way) -> Way:
    """Return a way that begins at the layer, and can run what follows it again."""
    names = {node.name for node in _behind(question, prepared)}
    nodes = tuple(node for node in way.nodes if node.name in names)
    values = {name: on_cpu(value) for name, value in way.values.items()}
    return replace(way, nodes=nodes, head=Head(question, prepared, feeds, values))


# ----- Both -----


def _kept(question: Question, prepared: Prepared, request: Request) -> list[str]:
    """The model's own tensors that are returned with the answer; the scores come first."""
    asked = dict.fromkeys((question.output, *request.layers))
    return [name for name in asked if name not in prepared.lowered.constants]


def _results(
    question: Question,
    raw: dict[str, Array],
    values: dict[str, Array],
    aims: list[Aim],
    *,
    several: bool,
) -> Results:
    scores = values[question.output]
    classes = [c for aim in aims if (c := aim.resolved(scores)) is not None]
    chosen = np.stack(classes) if len(classes) == len(aims) else None
    if several:
        return Results(raw, values, chosen, several)
    raw = {name: value[0] for name, value in raw.items()}
    return Results(raw, values, None if chosen is None else chosen[0], several)
