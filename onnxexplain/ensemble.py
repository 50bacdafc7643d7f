"""Several models, one explanation: their maps averaged, or summed where they agree."""

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain import feeds as given
from onnxexplain.errors import InputError, MethodError, ModelError
from onnxexplain.explanation import Explanation
from onnxexplain.graph import load
from onnxexplain.layers import Layer, Layers
from onnxexplain.methods.layers import EVERY
from onnxexplain.ops import role_of
from onnxexplain.results import Results, largest, named

if TYPE_CHECKING:
    from onnxexplain.explainer import Explainer

Array = np.ndarray[Any, Any]


class Ensemble(Explanation):
    """What several models rest their scores on, as one explanation of their mean score.

    Scores, logits, probabilities and constants are means over the models, and so are maps and
    attributions, which then add up to the mean score as each model's do to its own. A CAM's maps
    are resized to the input first, for the models' layers may differ in size, and stand under the
    input's name. With ``combine="sum"`` every map is divided by its maximum, set to zero where it
    is below ``combine_threshold``, and added to the others'.

    Attributes
    ----------
    members : tuple of Explanation
        each model's own.
    """

    def __init__(
        self,
        explainer: "Explainer",
        members: Sequence[Explanation],
        aims: tuple[Any, Any],
        seconds: float,
    ) -> None:
        self.members = tuple(members)
        self._adds = explainer.combine == "sum"
        self._above = explainer.combine_threshold
        super().__init__(explainer, members[0].inputs, self._joined(), aims, seconds)

    def _joined(self) -> Results:
        """Return the members' results as those of one model."""
        first = self.members[0]
        several = first.score.ndim > 1
        raw = {"score": self._mean(lambda m: m.score)}
        raw |= {f"attribution/{name}": value for name, value in self._attributed().items()}
        if first.shares_out and not self._adds:
            raw["total/of all models"] = self._mean(
                lambda m: np.asarray(sum(named(m._results.raw, "total/").values()))
            )
            for member in self.members:
                for name, value in member.constants.items():
                    key = f"constants/{name}"
                    raw[key] = raw.get(key, 0.0) + value / len(self.members)
        shape = first.logits.shape
        values = {first.output: self._mean(lambda m: m.logits.reshape(shape))}
        apart = largest(member.difference for member in self.members)
        overflown = largest(member.runtime_difference for member in self.members)
        return Results(raw, values, first.target, several, apart, overflown)

    def _attributed(self) -> dict[str, Array]:
        first = self.members[0]
        if self._adds or first.layer is not None:
            source = first.source
            heat = self._together(lambda m: m.heatmap())
            if source is None:
                return {next(iter(first.attributions)): heat}
            axis = -1 if source in first.channels_last else first.score.ndim
            return {source: np.expand_dims(heat, axis)}
        lists = [list(m.attributions.values()) for m in self.members]
        return {
            name: _mean([values[i] for values in lists])
            for i, name in enumerate(first.attributions)
        }

    def _mean(self, of: Callable[[Explanation], Array]) -> Array:
        return _mean([of(member) for member in self.members])

    def _together(self, of: Callable[[Explanation], Array]) -> Array:
        """Return the members' maps as one."""
        maps = [of(member) for member in self.members]
        if not self._adds:
            return _mean(maps)
        rank = self.members[0].score.ndim
        return np.asarray(sum(_above(m, rank, self._above) for m in maps), maps[0].dtype)

    # ----- what an explanation says -----

    @property
    def shares_out(self) -> bool:
        """Whether shares and constants add up to the score: means do, sums of maps do not."""
        return super().shares_out and not self._adds

    @property
    def layer(self) -> str | None:
        """The tensors that the models' CAMs looked at."""
        names = [member.layer for member in self.members if member.layer is not None]
        return ", ".join(dict.fromkeys(names)) or None

    @cached_property
    def probabilities(self) -> Array:
        """The mean of the models' probabilities, [N,K]."""
        return self._mean(lambda m: m.probabilities)

    def heatmap(self, *, constants: bool = True, layer: str | None = None) -> Array:
        """Return the models' maps as one, [N,H,W]; see :meth:`Explanation.heatmap`."""
        if layer is not None:
            raise MethodError("an ensemble has one map of each model; leave layer= out")
        return self._kept.setdefault(
            constants, self._together(lambda m: m.heatmap(constants=constants))
        )

    @cached_property
    def _kept(self) -> dict[bool, Array]:
        return {}

    @cached_property
    def constant_map(self) -> Array:
        """All constants of the networks, carried to the input, added up and averaged: [N,H,W]."""
        return self._mean(lambda m: m.constant_map)

    # ----- what belongs to one model -----

    @property
    def points(self) -> None:
        """Fixations are each model's own: see :attr:`members`."""
        return

    @property
    def blocks(self) -> tuple[str, ...]:
        """None: layers are each model's own."""
        return ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """None: layers are each model's own."""
        return ()

    @cached_property
    def layers(self) -> Layers:
        """None: layers are each model's own."""
        return _Apart(self, self._results)

    def fetch(
        self,
        *,
        layers: Sequence[str] = (),
        maps: Sequence[str] = (),
        statistics: Sequence[str] = (),
        constants: bool = False,
    ) -> None:
        """Compute the constants of every model ahead; its layers are fetched from itself."""
        for name in (*layers, *maps, *statistics):
            _ = self.layers[name]
        for member in self.members:
            member.fetch(constants=constants)


class _Apart(Layers):
    def __getitem__(self, name: str) -> Layer:
        raise MethodError(f"the layer `{name}` is of one model: see e.members[0].layers")


def _mean(values: Sequence[Array]) -> Array:
    shapes = {v.shape for v in values}
    if len(shapes) > 1:
        told = " and ".join(str(list(shape)) for shape in sorted(shapes))
        raise MethodError(f"the models' results differ in shape ({told}): they have no mean")
    return np.asarray(np.mean(values, axis=0))


def _above(values: Array, rank: int, threshold: float) -> Array:
    """Return maps over their maxima, zero where they are below a threshold; ``rank`` axes lead."""
    top = values.max(axis=tuple(range(rank, values.ndim)), keepdims=True)
    scaled = np.where(top > 0, values / np.where(top > 0, top, 1), 0)
    return np.where(scaled >= threshold, scaled, 0) if threshold else scaled


# ----- the models -----


def members(
    first: "Explainer", sources: Any, make: Callable[[Any], "Explainer"]
) -> "tuple[Explainer, ...]":
    """Return an explainer for each of the models beside the first.

    Raises
    ------
    MethodError, ModelError
        if what is asked for does not fit them, or their labels differ from the first model's.
    """
    if not isinstance(sources, list | tuple):
        raise MethodError(f"ensemble is a {type(sources).__name__}; it must be a list of models")
    threshold: Any = first.combine_threshold
    said = "combine_threshold"
    if not isinstance(threshold, int | float) or not 0 <= threshold < 1:
        raise MethodError(f"{said} is {threshold!r}; it is a part of a maximum: 0 to 1, but not 1")
    if threshold and first.combine != "sum":
        raise MethodError(f"{said} is for combine=sum: a mean counts every place")
    if first.combine == "sum" and not sources:
        raise MethodError("combine=sum needs the models to combine; name them with ensemble=")
    if sources and first.question.layer == EVERY:
        raise MethodError("an ensemble looks at one layer of each model; leave layer=all out")
    return tuple(_member(first, source, make) for source in sources)


def _member(first: "Explainer", source: Any, make: Callable[[Any], "Explainer"]) -> "Explainer":
    model = load(source, role_of)
    try:
        member = make(model)
    except MethodError as error:
        raise MethodError(f"{model.source}: {error}") from error
    own, theirs = first.model.labels, model.labels
    if own is not None and theirs is not None and own != theirs:
        raise ModelError(
            f"{model.source}: its classes ({', '.join(theirs[:3])} ...) are not those of "
            f"{first.model.source} ({', '.join(own[:3])} ...); an ensemble needs the same classes"
        )
    return member


# ----- asking every model -----


def explain(explainer: "Explainer", feeds: dict[str, Array], target: Any, targets: Any) -> Ensemble:
    """Ask the explainer's model and its members; ``top`` is the class strongest on average.

    Raises
    ------
    InputError, ModelError
        if the models differ in what they take or in their classes.
    """
    begin = time.perf_counter()
    models = (explainer, *explainer.members)
    fed = [_fed(feeds, model) for model in models]
    _check_classes(models, fed)
    answers = [model.answer(x, target, targets) for model, x in zip(models, fed, strict=True)]
    listed = [target] if targets is None else [] if isinstance(targets, str) else list(targets)
    if any(isinstance(t, str) and t == "top" for t in listed):
        top = _top(_mean([e.logits.reshape(answers[0].logits.shape) for e in answers]))
        chosen = [top if isinstance(t, str) and t == "top" else t for t in listed]
        target, targets = (chosen[0], None) if targets is None else (None, chosen)
        for i, own in enumerate(answers):
            if not np.array_equal(_top(own.logits), top):
                answers[i] = models[i].answer(fed[i], target, targets)
    return Ensemble(explainer, answers, (target, targets), time.perf_counter() - begin)


def _top(logits: Array) -> Array:
    """The strongest class of every sample."""
    classes = logits.shape[1] if logits.ndim > 1 else 1
    return np.asarray(logits.reshape(len(logits), classes, -1).sum(axis=-1).argmax(axis=1))


def _fed(feeds: dict[str, Array], explainer: "Explainer") -> dict[str, Array]:
    """Return the feeds under the names of a model; a single input may be called differently."""
    model = explainer.model
    if len(feeds) == len(model.inputs) == 1:
        feeds = dict(zip(model.inputs, feeds.values(), strict=True))
    try:
        return given.read(model, feeds, explainer.question.dtype)
    except InputError as error:
        raise InputError(
            f"{model.source}: {error}; the models of an ensemble take the same input"
        ) from error


def _check_classes(models: Sequence["Explainer"], fed: Sequence[dict[str, Array]]) -> None:
    shapes = []
    for model, feeds in zip(models, fed, strict=True):
        shape = list(model.prepare_one(feeds).lowered.shapes[model.question.output][1:])
        while shape and shape[-1] == 1:
            shape.pop()
        shapes.append(shape)
    for model, shape in zip(models, shapes, strict=True):
        if shape != shapes[0]:
            raise ModelError(
                f"{model.model.source}: its scores `{model.question.output}` are {shape} per "
                f"sample, those of {models[0].model.source} {shapes[0]}; "
                "the models of an ensemble have the same classes"
            )
