"""An explainer: a model and a method, prepared once and called often."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxexplain import compiler, graph, target
from onnxexplain import feeds as given
from onnxexplain.compiler import Compiled
from onnxexplain.errors import InputError, MethodError, ModelError, nearest
from onnxexplain.explanation import Explanation, Results
from onnxexplain.graph import Lowered, Model, Node, lower, within
from onnxexplain.methods import Way, make, way
from onnxexplain.methods.account import blocks
from onnxexplain.methods.answer import Request, answer
from onnxexplain.ops import role_of
from onnxexplain.runtime import Device, Session, capture, evaluate, newest, run_once
from onnxexplain.runtime.capture import cupy, on_gpu
from onnxexplain.tensor import Arrays, Symbol, Tape

Array = np.ndarray[Any, Any]

AGREEMENT = 1e-2
"""How far the lowered model may be from the user's file, relative to its largest output."""

SESSIONS = 8
"""Compiled sessions kept per input shape; the oldest goes first."""


@dataclass
class Prepared:
    """The model lowered for one shape of its inputs, and the way through it."""

    lowered: Lowered
    nodes: tuple[Node, ...]
    moving: frozenset[str]
    wrt: tuple[str, ...]
    layer: str | None
    sessions: dict[Any, tuple[Compiled, Session]]
    blocks: tuple[str, ...] = ()
    checked: bool = False
    difference: float | None = None


class Explainer:
    """Explains a model's scores by one method. Thread-safe; every option of :func:`explain`.

    Parameters
    ----------
    model
        a :class:`Model`, a path, bytes, or a ``ModelProto``.
    method
        a name; :func:`methods` lists them.
    target, targets
        what :meth:`__call__` explains where it is not told otherwise.
    output
        the tensor that holds the scores; by default the model's first float output, a softmax or
        sigmoid at its very end stepped over.
    wrt
        the tensors that receive the attribution, instead of the float inputs.
    layer
        where a CAM looks.
    layers
        more tensors to return, or ``"all"``.
    engine
        ``compiled`` (the way back as ONNX nodes behind the model), ``eager`` (NumPy or CuPy on
        captured activations), or ``auto``.
    dtype
        ``float32``, or ``float64`` to check with (eager, on the CPU; slow).
    options
        the method's own.

    Raises
    ------
    ModelError, UnsupportedOperator, MethodError, DeviceError
        before anything runs, each in one line.
    """

    def __init__(
        self,
        model: Model | str | Path | bytes | onnx.ModelProto,
        method: str = "score-propagation",
        *,
        target: Any = "top",
        targets: Any = None,
        against: Any = None,
        output: str | None = None,
        wrt: str | Sequence[str] | None = None,
        layer: str | None = None,
        layers: str | Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        dtype: str = "float32",
        engine: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        session_options: Any = None,
        **options: Any,
    ) -> None:
        self.model = load(model)
        self.method = make(method, options)
        self.options = options
        self.target, self.targets, self.against = target, targets, against
        self.labels = list(labels) if labels is not None else self.model.labels
        self.dtype = _one_of("dtype", dtype, ("float32", "float64"))
        self.engine = _one_of("engine", engine, ("auto", "compiled", "eager"))
        if dtype == "float64":
            if engine == "compiled":
                raise MethodError("dtype float64 needs engine=eager: no provider computes in it")
            self.engine = "eager"
        self.device = Device.named(
            "cpu" if dtype == "float64" and device == "auto" else device,
            providers=providers,
            threads=threads,
            options=session_options,
        )
        self.output = way.scores(self.model, output)
        self.layer = layer
        self._wrt = [wrt] if isinstance(wrt, str) else wrt
        self._layers = layers
        self._prepared: dict[Any, Prepared] = {}
        self._lock = threading.Lock()
        way.check(self.model, self.output)

    def __repr__(self) -> str:
        return f"<Explainer {self.method.name} of {self.model.source}>"

    def __call__(self, inputs: Any, target: Any = None, targets: Any = None) -> Explanation:
        """Explain one batch.

        Parameters
        ----------
        inputs
            an array for a model with one input, or arrays by input name; batch axis first.
        target
            ``"top"``, a class, one class per sample [N], a label, a tuple for one element of an
            output of more axes, or a float array of the output's shape.
        targets
            a list of such targets, or ``"all"``: every result gets a leading axis T.

        Returns
        -------
        Explanation

        Raises
        ------
        InputError, MethodError
            where inputs or target do not fit the model.
        """
        begin = time.perf_counter()
        feeds = given.read(self.model, inputs)
        if target is None and targets is None:
            target, targets = self.target, self.targets
        if targets is not None and target not in (None, "top"):
            raise MethodError("give target or targets, not both")
        results = self.compute(feeds, target, targets, Request(layers=self._named(feeds)))
        seconds = time.perf_counter() - begin
        return Explanation(self, feeds, results, (target, targets), seconds)

    # ----- one batch -----

    def compute(
        self, feeds: dict[str, Array], target: Any, targets: Any, request: Request
    ) -> Results:
        """Run the method on checked feeds; samples that cannot run together run one by one."""
        n = given.batch(feeds)
        if n > 1 and not self._together(feeds):
            singles = [
                self.compute(
                    given.sample(feeds, i, n),
                    _sample(target, i, n),
                    targets
                    if isinstance(targets, str) or targets is None
                    else [_sample(t, i, n) for t in targets],
                    request,
                )
                for i in range(n)
            ]
            return Results.joined(singles)
        prepared = self.prepare(feeds)
        self._agree(prepared, feeds)
        engine = self._eager if self._engine(prepared) == "eager" else self._compiled
        return engine(prepared, feeds, target, targets, request)

    def prepare(self, feeds: Mapping[str, Array]) -> Prepared:
        """Lower the model for the shapes at hand and find the way through it, once per shape."""
        key = tuple((name, value.shape) for name, value in feeds.items())
        with self._lock:
            if key not in self._prepared:
                self._prepared[key] = self._prepare({n: v.shape for n, v in feeds.items()})
            return self._prepared[key]

    def _prepare(self, sizes: dict[str, tuple[int, ...]]) -> Prepared:
        lowered = lower(self.model.proto, sizes, run_once, self.dtype, newest())
        path = way.find(lowered, self.model, self.output, self._wrt)
        layer = None
        if self.method.cam:
            layer = way.cam_layer(lowered, path, self.layer, self.output)
        prepared = Prepared(lowered, path.nodes, path.moving, path.wrt, layer, {})
        prepared.blocks = blocks(self._way(prepared, _names(lowered), None, None))
        return prepared

    def _way(self, prepared: Prepared, values: Any, xp: Any, seed: Any) -> Way:
        return Way(
            xp,
            prepared.nodes,
            values,
            prepared.moving,
            prepared.wrt,
            self.output,
            seed,
            prepared.layer,
        )

    def _named(self, feeds: Mapping[str, Array]) -> tuple[str, ...]:
        """The tensors asked for with ``layers``."""
        if self._layers is None:
            return ()
        own = self.tensors(feeds)
        if self._layers == "all":
            return own
        asked = [self._layers] if isinstance(self._layers, str) else list(self._layers)
        for name in asked:
            if name not in own:
                raise MethodError(f"no tensor `{name}` on the way{nearest(name, own)}")
        return tuple(asked)

    def tensors(self, feeds: Mapping[str, Array]) -> tuple[str, ...]:
        """Return the float tensors of the user's own graph on the way, input side first."""
        own = {t for node in self.model.nodes for t in node.outputs} | set(self.model.inputs)
        prepared = self.prepare(given.sample(feeds, 0, given.batch(feeds)))
        made = [t for node in prepared.nodes for t in node.outputs if t in prepared.moving]
        return tuple(t for t in (*prepared.wrt, *made) if t in own)

    # ----- engines -----

    def _engine(self, prepared: Prepared) -> str:
        return "compiled" if self.engine == "auto" else self.engine

    def _compiled(
        self,
        prepared: Prepared,
        feeds: dict[str, Array],
        chosen: Any,
        several: Any,
        request: Request,
    ) -> Results:
        shape = prepared.lowered.shapes[self.output]
        aims = target.read(chosen, several, self.against, shape, self.labels)
        seeded = any(aim.seed is not None for aim in aims)
        compiled, session = self._session(prepared, len(aims), seeded, request)
        inputs = dict(feeds)
        if seeded:
            inputs[compiler.SEED] = self._seeds(prepared, feeds, aims)
        else:
            inputs[compiler.TARGET] = np.stack(
                [aim.classes for aim in aims if aim.classes is not None]
            )
        kept = _kept(self.output, prepared, request)
        raw = _run(compiled, session, inputs, kept, len(aims))
        return self._results(prepared, raw, aims, several is not None, request)

    def _session(
        self, prepared: Prepared, classes: int, seeded: bool, request: Request
    ) -> tuple[Compiled, Session]:
        key = (classes, seeded, request)
        with self._lock:
            if key in prepared.sessions:
                return prepared.sessions[key]
            compiled = self._compile(prepared, classes, seeded, request)
            made = compiled, Session(compiled.proto, self.device)
            while len(prepared.sessions) >= SESSIONS:
                prepared.sessions.pop(next(iter(prepared.sessions)))
            prepared.sessions[key] = made
            return made

    def _compile(
        self, prepared: Prepared, classes: int, seeded: bool, request: Request
    ) -> Compiled:
        def write(tape: Tape, values: dict[str, Symbol], seed: Symbol) -> Any:
            return answer(self._way(prepared, values, tape, seed), self.method, request)

        return compiler.compile_graph(
            prepared.lowered,
            self.output,
            write,
            classes=classes,
            seeded=seeded,
            blocked=self.device.kind == "cpu",
            ties=getattr(self.method, "ties", "first"),
            kept=_kept(self.output, prepared, request)[1:],
        )

    def _eager(
        self,
        prepared: Prepared,
        feeds: dict[str, Array],
        chosen: Any,
        several: Any,
        request: Request,
    ) -> Results:
        values = self._values(prepared, feeds)
        on_cuda = self.device.kind == "cuda"
        xp = Arrays(cupy() if on_cuda else np, getattr(self.method, "ties", "first"))
        scores = _numpy(values[self.output])
        aims = target.read(chosen, several, self.against, scores.shape, self.labels)
        seeds = [aim.seeds(scores) for aim in aims]
        raw: dict[str, list[Array]] = {}
        for seed in seeds:
            way_ = self._way(prepared, values, xp, xp.module.asarray(seed))
            for name, value in answer(way_, self.method, request):
                raw.setdefault(name, []).append(_numpy(value))
        stacked = {name: np.stack(parts) for name, parts in raw.items()}
        for name in _kept(self.output, prepared, request):
            stacked[f"value/{name}"] = _numpy(values[name])
        return self._results(prepared, stacked, aims, several is not None, request)

    def _values(self, prepared: Prepared, feeds: dict[str, Array]) -> dict[str, Any]:
        """Return every tensor that the way back may read."""
        lowered = prepared.lowered
        read = {t for node in prepared.nodes for t in (*node.inputs, *node.outputs) if t}
        read |= {self.output, *prepared.wrt}
        wanted = sorted(read - set(lowered.constants))
        constants = {name: lowered.constants[name] for name in read & set(lowered.constants)}
        if self.dtype == "float64":
            return constants | evaluate(lowered.proto, _widened(feeds), wanted)
        found = capture(lowered.proto, feeds, wanted, self.device)
        return found | (on_gpu(constants) if self.device.kind == "cuda" else constants)

    def _seeds(self, prepared: Prepared, feeds: dict[str, Array], aims: list[target.Aim]) -> Array:
        """Return one linear combination of the output per aim."""
        shape = prepared.lowered.shapes[self.output]
        scores: Array = np.zeros(shape, np.float32)
        if any(aim.undecided for aim in aims):
            scores = capture(prepared.lowered.proto, feeds, [self.output], Device.named("cpu"))[
                self.output
            ]
        return np.stack([aim.seeds(scores) for aim in aims])

    def _results(
        self,
        prepared: Prepared,
        raw: dict[str, Array],
        aims: list[target.Aim],
        several: bool,
        request: Request,
    ) -> Results:
        values = {n.removeprefix("value/"): raw.pop(n) for n in list(raw) if n.startswith("value/")}
        scores = values[self.output]
        classes = [c for aim in aims if (c := aim.resolved(scores)) is not None]
        if not several:
            raw = {name: value[0] for name, value in raw.items()}
        chosen = np.stack(classes) if len(classes) == len(aims) else None
        return Results(
            raw,
            values,
            chosen if several or chosen is None else chosen[0],
            several,
            prepared.blocks,
            prepared.lowered.shapes,
            prepared.difference,
        )

    # ----- checks -----

    def _agree(self, prepared: Prepared, feeds: dict[str, Array]) -> None:
        """Check once that the lowered model answers as the user's file does."""
        if prepared.checked or not prepared.lowered.changed:
            return
        own = Session(within(self.model.proto, newest()), Device.named("cpu"))
        inputs = {n: v.astype(self.model.inputs[n].dtype) for n, v in feeds.items()}
        theirs = dict(zip(own.outputs, own.run(inputs), strict=True))
        floats = [
            n
            for n, v in theirs.items()
            if getattr(v, "dtype", None) is not None and v.dtype.kind == "f"
        ]
        if self.dtype == "float64":
            ours = evaluate(prepared.lowered.proto, _widened(feeds), floats)
        else:
            ours = capture(prepared.lowered.proto, feeds, floats, Device.named("cpu"))
        worst = max((_difference(ours[n], theirs[n]) for n in floats), default=0.0)
        if not worst <= AGREEMENT:
            done = "; ".join(prepared.lowered.changed)
            raise ModelError(
                f"{self.model.source}: lowered ({done}) it answers differently by {worst:.2g} "
                "of its largest output; it cannot be explained faithfully"
            )
        prepared.difference, prepared.checked = worst, True

    def _together(self, feeds: dict[str, Array]) -> bool:
        """Whether samples may share a run: a free batch axis that every tensor on the way keeps,
        and a batch of two that gives what the two give alone."""
        n = given.batch(feeds)
        if any(isinstance(i.shape[0], int) for i in self.model.inputs.values() if i.shape):
            return False
        return self._independent(n, tuple((k, v.shape[1:]) for k, v in feeds.items()), feeds)

    def _independent(self, n: int, key: Any, feeds: dict[str, Array]) -> bool:
        if key not in self._batchable:
            two = {name: value[[0, -1]] for name, value in feeds.items()}
            try:
                pair = self.prepare(two)
                kept = all(pair.lowered.shapes[t][:1] == (2,) for t in pair.moving)
                self._batchable[key] = kept and self._same_apart(pair, two)
            except (ModelError, InputError):  # its inside is made for one sample
                self._batchable[key] = False
        return self._batchable[key]

    @cached_property
    def _batchable(self) -> dict[Any, bool]:
        return {}

    def _same_apart(self, pair: Prepared, two: dict[str, Array]) -> bool:
        alone = []
        for i in range(2):
            one = given.sample(two, i, 2)
            alone.append(self._scores(self.prepare(one), one))
        together, apart = self._scores(pair, two), np.concatenate(alone)
        return bool(np.allclose(together, apart, rtol=1e-4, atol=1e-4 * np.abs(apart).max()))

    def _scores(self, prepared: Prepared, feeds: dict[str, Array]) -> Array:
        if self.dtype == "float64":
            return evaluate(prepared.lowered.proto, _widened(feeds), [self.output])[self.output]
        found = capture(prepared.lowered.proto, feeds, [self.output], self.device)
        return _numpy(found[self.output])


def load(source: str | Path | bytes | onnx.ModelProto | Model) -> Model:
    """Read a model from a path, from bytes, or take a ``ModelProto``.

    Weights in external files are read only from the model's own folder.

    Raises
    ------
    ModelError
        if it is no ONNX model, is cut short, is inconsistent, or points outside its folder.
    """
    return graph.load(source, role_of)


def explain(
    model: Model | str | Path | bytes | onnx.ModelProto,
    inputs: Any,
    method: str = "score-propagation",
    **options: Any,
) -> Explanation:
    """Explain a model's scores on one batch.

    Takes every parameter of :class:`Explainer`; to explain many batches make one of those and call
    it, which prepares the model once.
    """
    return Explainer(model, method, **options)(inputs)


def _kept(output: str, prepared: Prepared, request: Request) -> list[str]:
    """The model's own tensors that are returned with the answer."""
    asked = dict.fromkeys((output, *request.layers))
    return [name for name in asked if name not in prepared.lowered.constants]


def _run(
    compiled: Compiled, session: Session, given: dict[str, Array], kept: list[str], classes: int
) -> dict[str, Array]:
    """Run a compiled graph, the large results written where they will stay."""
    names = list(dict.fromkeys(name for _, name in compiled.outputs))
    raw: dict[str, Array] = {}
    filled: dict[str, Array] = {}
    for name in names:
        shape, dtype = compiled.shapes[compiled.outputs[0, name]]
        raw[name] = np.empty((classes, *shape), dtype)
        filled |= {compiled.outputs[t, name]: raw[name][t] for t in range(classes)}
    rest = [name for name in kept if name not in given]
    values = dict(zip(rest, session.run_into(given, filled, rest), strict=True))
    values |= {name: given[name] for name in kept if name in given}
    return raw | {f"value/{name}": value for name, value in values.items()}


def _names(lowered: Lowered) -> dict[str, Any]:
    """Stand-ins where only the graph is asked about."""
    return {name: None for name in lowered.shapes}


def _sample(chosen: Any, i: int, n: int) -> Any:
    if isinstance(chosen, (list, np.ndarray)) and np.ndim(chosen) >= 1 and len(chosen) == n:
        return np.asarray(chosen)[i : i + 1]
    return chosen


def _one_of(what: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise MethodError(f"no {what} `{value}`; one of {', '.join(known)}")
    return value


def _widened(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()}


def _numpy(value: Any) -> Array:
    return np.asarray(value.get() if hasattr(value, "get") else value)


def _difference(ours: Array, theirs: Array) -> float:
    theirs = theirs.astype(np.float64)
    return (
        float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
        if theirs.size
        else 0.0
    )
