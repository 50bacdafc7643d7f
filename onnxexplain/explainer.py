"""An explainer: a model and a method, prepared once and called often."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxexplain import engines, graph, plugins
from onnxexplain import ensemble as ensembles
from onnxexplain import feeds as given
from onnxexplain.errors import (
    InputError,
    MethodError,
    ModelError,
    UnsupportedOperator,
    nearest,
)
from onnxexplain.explanation import Explanation
from onnxexplain.graph import Model
from onnxexplain.methods import Method, make, way
from onnxexplain.methods.answer import Request
from onnxexplain.methods.layers import EVERY
from onnxexplain.ops import role_of
from onnxexplain.prepared import Prepared, Question, agree, decide, prepare
from onnxexplain.results import Results
from onnxexplain.runtime import Device, Session

Array = np.ndarray[Any, Any]

MOST_COMPILED = 8192
"""A longer way (700 steps of a recurrence) runs eager unless asked otherwise: making a session of
it takes the runtime a time that grows with the square of the nodes."""

MOST_PREPARED = 64
"""So many shapes, and ways that data took, are kept ready; the oldest goes first."""


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
        where a CAM looks: a tensor, by default the last with positions; ``"all"`` gives a map for
        every layer.
    layers
        more tensors to return, or ``"all"``.
    ensemble
        more models that take the same input and have the same classes: what is explained is their
        mean score, and the result is an :class:`~onnxexplain.ensemble.Ensemble`.
    combine
        how the models' maps become one: their ``mean``, or the ``sum`` of each over its maximum.
    combine_threshold
        with ``sum``: a part of each map's maximum below which it does not count.
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
        ensemble: Sequence[Model | str | Path | bytes | onnx.ModelProto] = (),
        combine: str = "mean",
        combine_threshold: float = 0.0,
        labels: Sequence[str] | None = None,
        dtype: str = "float32",
        engine: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        session_options: Any = None,
        **options: Any,
    ) -> None:
        plugins.load_installed()
        self.model = load(model)
        self.options = _given(
            options,
            against=against,
            output=output,
            wrt=wrt,
            layer=layer,
            combine=combine if combine != "mean" else None,
            combine_threshold=combine_threshold or None,
            dtype=dtype if dtype != "float32" else None,
            engine=engine if engine != "auto" else None,
        )
        self.target, self.targets = target, targets
        self.combine, self.combine_threshold = combine, combine_threshold
        _check_names(output=output or "", layer=layer or "", method=method)
        _check_lists(wrt=wrt, layers=layers)
        _one_of("combine", combine, ("mean", "sum"))
        cpu = dtype == "float64" and device == "auto"
        self.question = Question(
            model=self.model,
            method=make(method, options),
            output=way.scores(self.model, output),
            wrt=[wrt] if isinstance(wrt, str) else wrt,
            layer=layer,
            labels=list(labels) if labels is not None else self.model.labels,
            against=against,
            dtype=dtype,
            device=Device.named(
                "cpu" if cpu else device,
                providers=providers,
                threads=threads,
                options=session_options,
            ),
        )
        self.engine = _engine(engine, dtype, self.question.method)
        _check_layer(layer, self.question.method)
        way.check(self.model, self.question.output, self.question.wrt or ())
        shared: dict[str, Any] = {
            "output": output,
            "wrt": wrt,
            "layer": layer,
            "layers": layers,
            "against": against,
            "labels": labels,
            "dtype": dtype,
            "engine": engine,
            "device": device,
            "threads": threads,
            "providers": providers,
            "session_options": session_options,
        }
        self.members = ensembles.members(
            self, ensemble, lambda other: Explainer(other, method, **shared, **options)
        )
        if self.members:
            self.options["ensemble"] = [member.model.source for member in self.members]
        self._layers = layers
        self._prepared: dict[Any, Prepared] = {}
        self._batchable: dict[Any, bool] = {}
        self._rows: dict[Any, int | None] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Explainer {self.question.method.name} of {self.model.source}>"

    def __call__(self, inputs: Any, target: Any = None, targets: Any = None) -> Explanation:
        """Explain one batch.

        Parameters
        ----------
        inputs
            an array for a model with one input, or arrays by input name; batch axis first.
        target
            ``"top"``, a class, one class per sample [N], a label, a tuple for one element of an
            output of more axes, ``"sum"`` for the sum of all scores, or a float array of the
            output's shape: any weights of them.
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
        feeds = given.read(self.model, inputs)
        if target is None and targets is None:
            target, targets = self.target, self.targets
        if targets is not None and not (target is None or isinstance(target, str)):
            raise MethodError("give target or targets, not both")
        if self.members:
            return ensembles.explain(self, feeds, target, targets)
        return self.answer(feeds, target, targets)

    # ----- one batch -----

    def answer(self, feeds: dict[str, Array], target: Any, targets: Any) -> Explanation:
        """Explain checked feeds by this model alone."""
        begin = time.perf_counter()
        results = self.compute(feeds, target, targets, Request(layers=self._named(feeds)))
        seconds = time.perf_counter() - begin
        return Explanation(self, feeds, results, (target, targets), seconds)

    def compute(
        self, feeds: dict[str, Array], target: Any, targets: Any, request: Request
    ) -> Results:
        """Run the method on checked feeds; samples that cannot run together run one by one."""
        n = self.samples(feeds)
        if n > 1 and not self.together(feeds):
            singles = []
            for i in range(n):
                several = (
                    targets if isinstance(targets, str | None) else [_at(t, i, n) for t in targets]
                )
                one = given.sample(self.model, feeds, i, n)
                singles.append(self.compute(one, _at(target, i, n), several, request))
            return Results.joined(singles)
        prepared = self.prepare(feeds)
        agree(self.question, prepared, feeds)
        asked = self.options.get("engine") == "compiled"
        short = asked or len(prepared.nodes) <= MOST_COMPILED
        compiles = self.engine == "compiled" and prepared.lowered.runs and short
        if not compiles and asked:
            raise ModelError(
                f"{self.model.source}: ONNX Runtime does not know every operator of it; "
                "leave out engine=, or say engine=eager"
            )
        engine = engines.compiled if compiles else engines.eager
        with np.errstate(all="ignore"):  # what overflows is seen in the score
            results = engine(self.question, prepared, feeds, target, targets, request)
        if not np.isfinite(results.raw.get("score", 0.0)).all():
            raise ModelError(
                f"{self.model.source}: the score is not finite; "
                "on this input the model overflows or divides by zero"
            )
        return results

    def prepare(self, feeds: Mapping[str, Array]) -> Prepared:
        """Return the model made ready for the shapes at hand; done once per shape.

        Where the data decide which way it takes, once for every way.
        """
        sizes = {name: value.shape for name, value in feeds.items()}
        decided: dict[str, int] = {}
        with self._lock:
            while True:
                key = (*sizes.items(), *decided.items())
                if key not in self._prepared:
                    while len(self._prepared) >= MOST_PREPARED:
                        self._prepared.pop(next(iter(self._prepared)))
                    self._prepared[key] = prepare(self.question, sizes, decided)
                prepared = self._prepared[key]
                if not prepared.decides:
                    return prepared
                decided |= decide(self.question, prepared, dict(feeds))

    def prepare_one(self, feeds: Mapping[str, Array]) -> Prepared:
        """Return the model made ready for one sample of these feeds."""
        return self.prepare(given.sample(self.model, feeds, 0, self.samples(feeds)))

    def tensors(self, feeds: Mapping[str, Array]) -> tuple[str, ...]:
        """Return the float tensors of the user's own graph on the way, input side first."""
        own = {t for node in self.model.nodes for t in node.outputs} | set(self.model.inputs)
        prepared = self.prepare_one(feeds)
        made = [t for node in prepared.nodes for t in node.outputs if t in prepared.moving]
        return tuple(t for t in (*prepared.wrt, *made) if t in own)

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

    # ----- samples together -----

    def samples(self, feeds: Mapping[str, Array]) -> int:
        """Return how many samples there are: one where axis 0 of the input counts something else.

        It counts the steps of a sequence, say, if the scores are as many whatever its length.

        Raises
        ------
        InputError
            if it does, and there are several samples along another axis.
        """
        n = given.batch(self.model, feeds)
        if n == 1:
            return 1
        key = tuple((name, value.shape[1:]) for name, value in feeds.items())
        if key not in self._rows:
            try:
                self._rows[key] = self._whatever_length(feeds)
            except (ModelError, InputError, UnsupportedOperator):
                self._rows[key] = None  # the inside of the model is made for one number
        rows = self._rows[key]
        if rows is not None and rows > 1:
            name = min(given.per_sample(self.model))
            raise InputError(
                f"axis 0 of `{name}` does not count samples, and there are {rows} of them along "
                "another axis; explain one at a time"
            )
        return n if rows is None else 1

    def _whatever_length(self, feeds: Mapping[str, Array]) -> int | None:
        """Return how many rows of scores there are, however long axis 0 of the input is.

        None where that depends on it. A file made for one length is asked with that.
        """
        cut, n = given.per_sample(self.model), given.batch(self.model, feeds)
        lengths = (n,) if self._fixed() == {n} else (1, 2)
        found = []
        for k in lengths:
            part = {t: v[:k] if t in cut and v.ndim else v for t, v in feeds.items()}
            prepared = self.prepare(part)
            found.append(prepared.lowered.shapes.get(self.question.output, ()))
        self._runs(prepared, part)
        told = found[0] and found[0] == found[-1] and (len(found) == 2 or found[0][0] != n)
        return found[0][0] if told else None

    def _runs(self, prepared: Prepared, feeds: dict[str, Array]) -> None:
        """Raise where the model takes that length in its shapes alone."""
        cpu, held = Device.named("cpu"), prepared.captures
        self.question.forward(prepared.lowered, feeds, [self.question.output], cpu, held)

    def _fixed(self) -> set[Any]:
        """The lengths of axis 0 that the file gives to what is cut into samples."""
        cut = given.per_sample(self.model)
        return {i.shape[0] for n, i in self.model.inputs.items() if n in cut and i.shape}

    def together(self, feeds: dict[str, Array]) -> bool:
        """Whether samples may share a run.

        They may where the batch axis is free, every tensor on the way keeps it, and a batch of two
        gives what the two give alone.
        """
        cut = given.per_sample(self.model)
        if any(name in (self.question.wrt or feeds) for name in set(feeds) - cut):
            return False  # each sample has a share of its own in what all have in common
        fixed = self._fixed()
        if fixed == {given.batch(self.model, feeds)}:
            return self._inseparable(feeds)
        if any(isinstance(length, int) for length in fixed):
            return False
        key = tuple((name, value.shape[1:]) for name, value in feeds.items())
        if key not in self._batchable:
            two = {n: v[[0, -1]] if n in cut and v.ndim else v for n, v in feeds.items()}
            try:
                pair = self.prepare(two)
                one = self.prepare(given.sample(self.model, two, 0, 2))
                kept = all(  # an axis that has two of something else by chance is told apart
                    (pair.lowered.shapes[t][:1], one.lowered.shapes[t][:1]) == ((2,), (1,))
                    for t in pair.moving
                )
                kept = kept and not pair.decided  # each sample may go another way
                self._batchable[key] = kept and self._same_apart(pair, two)
            except (ModelError, InputError):  # the inside of the model is made for one sample
                self._batchable[key] = False
        return self._batchable[key]

    def _inseparable(self, feeds: dict[str, Array]) -> bool:
        """Whether the samples of a file made for so many of them run together.

        They do where every tensor on the way keeps the batch axis, or nothing else works.
        """
        n, key = given.batch(self.model, feeds), tuple((t, v.shape) for t, v in feeds.items())
        if key not in self._batchable:
            whole = self.prepare(feeds)
            kept = all(whole.lowered.shapes[t][:1] == (n,) for t in whole.moving)
            try:
                self._batchable[key] = kept or not self._same_apart(whole, feeds)
            except (ModelError, InputError):  # the inside of the model is made for so many
                self._batchable[key] = True
        return self._batchable[key]

    def _same_apart(self, whole: Prepared, feeds: dict[str, Array]) -> bool:
        """Whether the first and the last sample have the scores that they have alone."""
        cpu, output, n = Device.named("cpu"), self.question.output, given.batch(self.model, feeds)
        rows = self.question.forward(whole.lowered, feeds, [output], cpu)[output]
        alone = []
        held: dict[tuple[str, ...], Session] = {}
        for i in (0, n - 1):
            one = given.sample(self.model, feeds, i, n)
            lowered = self.prepare(one).lowered
            alone.append(self.question.forward(lowered, one, [output], cpu, held)[output])
        together, apart = rows[[0, n - 1]], np.concatenate(alone)
        largest = float(np.abs(apart).max())
        return bool(np.allclose(together, apart, rtol=1e-4, atol=1e-4 * largest))


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
    *,
    target: Any = "top",
    targets: Any = None,
    **options: Any,
) -> Explanation:
    """Explain a model's scores on one batch.

    Takes every parameter of :class:`Explainer`; to explain many batches make one of those and call
    it, which prepares the model once.
    """
    return Explainer(model, method, target=target, targets=targets, **options)(inputs)


def _at(chosen: Any, i: int, n: int) -> Any:
    """A target of ``n`` samples as that of sample ``i``."""
    if isinstance(chosen, list | np.ndarray) and len(chosen) == n:
        return chosen[i : i + 1]
    if isinstance(chosen, list | np.ndarray) and np.shape(chosen)[:1]:
        raise MethodError(f"a target of {len(chosen)} entries is given for {n} samples")
    return chosen


def _given(options: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The method's options, and what else was asked for."""
    return options | {name: value for name, value in others.items() if value is not None}


def _check_names(**given: Any) -> None:
    for what, value in given.items():
        if not isinstance(value, str):
            raise MethodError(f"{what} is {value!r}; it must be a name")


def _check_lists(**given: Any) -> None:
    for what, value in given.items():
        if not isinstance(value, str | Sequence | None):
            raise MethodError(f"{what} is {value!r}; it must be a name, or a list of names")


def _check_layer(layer: str | None, method: Method) -> None:
    if layer is not None and not method.layered:
        raise MethodError(
            f"{method.name} looks at no single layer; layer= is for CAMs, see layers="
        )
    if layer == EVERY and not method.everywhere:
        raise MethodError(f"{method.name} looks at one layer at a time; name it with layer=")


def _engine(asked: str, dtype: str, method: Method) -> str:
    """Return the engine that runs a method: compiled where nothing speaks against it."""
    _one_of("dtype", dtype, ("float32", "float64"))
    _one_of("engine", asked, ("auto", "compiled", "eager"))
    if asked == "compiled" and dtype == "float64":
        raise MethodError("dtype float64 needs engine=eager: no provider computes in it")
    if asked == "compiled" and not method.compiles:
        raise MethodError(f"{method.name} looks at values while it runs; it needs engine=eager")
    plain = dtype == "float32" and asked != "eager" and method.compiles
    return "compiled" if plain else "eager"


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise MethodError(f"no {what} `{value}`; one of {', '.join(known)}")
