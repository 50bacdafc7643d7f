"""An explainer: a model and a method, prepared once and called often."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxexplain import engines, entangled, graph, plugins
from onnxexplain import ensemble as ensembles
from onnxexplain import feeds as given
from onnxexplain.apart import Apart
from onnxexplain.asked import check_layer, check_lists, check_names, engine_for, one_of
from onnxexplain.errors import MethodError, ModelError, nearest
from onnxexplain.explanation import Explanation
from onnxexplain.graph import Model
from onnxexplain.methods import make, way
from onnxexplain.methods.answer import Request
from onnxexplain.ops import role_of
from onnxexplain.prepared import Prepared, Question, Ready, agree
from onnxexplain.results import Results
from onnxexplain.runtime import Device

Array = np.ndarray[Any, Any]

MOST_COMPILED = 8192
"""A longer way (700 steps of a recurrence) runs eager unless asked otherwise: making a session of
it takes the runtime a time that grows with the square of the nodes."""


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
        ``float32``, or ``float64`` to check with (eager, on the CPU; slow). Inputs are rounded to
        float32 first; in float64 those of a file of doubles are not.
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
        check_names(output=output or "", layer=layer or "", method=method)
        check_lists(wrt=wrt, layers=layers)
        one_of("combine", combine, ("mean", "sum"))
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
        self.engine = engine_for(engine, dtype, self.question.method)
        check_layer(layer, self.question.method)
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
        self._ready = Ready()
        self.apart = Apart(self.question, self.prepare)

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
        feeds = given.read(self.model, inputs, self.question.dtype)
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
        n = self.apart.samples(feeds)
        if n > 1 and not self.apart.together(feeds):
            singles = self.apart.singles(feeds, target, targets)
            return Results.joined([self.compute(*single, request) for single in singles])
        prepared = self.prepare(feeds)
        agree(self.question, prepared, feeds)
        engine = self._engine(prepared)

        def send(target: Any, targets: Any, request: Request) -> Results:
            return engine(self.question, prepared, feeds, target, targets, request)

        with np.errstate(all="ignore"):  # what overflows is seen in the score
            results = send(target, targets, request)
            if n > 1 and not entangled.balanced(results, n):
                results = entangled.apart(self.question, results, (target, targets), send)
        if not np.isfinite(results.raw.get("score", 0.0)).all():
            raise ModelError(
                f"{self.model.source}: the score is not finite; "
                "on this input the model overflows or divides by zero"
            )
        results.difference = prepared.difference
        results.runtime_difference = prepared.runtime_difference
        return results

    def _engine(self, prepared: Prepared) -> Callable[..., Results]:
        """The engine that was asked for, or that fits the model.

        Raises
        ------
        ModelError
            if ``compiled`` was asked for and the runtime cannot load the model.
        """
        asked = self.options.get("engine") == "compiled"
        short = asked or len(prepared.nodes) <= MOST_COMPILED
        if self.engine == "compiled" and prepared.lowered.runs and short:
            return engines.compiled
        if asked:
            raise ModelError(
                f"{self.model.source}: ONNX Runtime does not know every operator of it; "
                "leave out engine=, or say engine=eager"
            )
        return engines.eager

    def prepare(self, feeds: Mapping[str, Array]) -> Prepared:
        """Return the model made ready for the shapes at hand; done once per shape."""
        return self._ready(self.question, feeds)

    def prepare_one(self, feeds: Mapping[str, Array]) -> Prepared:
        """Return the model made ready for one sample of these feeds."""
        return self.prepare(given.sample(self.model, feeds, 0, self.apart.samples(feeds)))

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


def _given(options: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The method's options, and what else was asked for."""
    return options | {name: value for name, value in others.items() if value is not None}
