"""What an explanation holds, and what can be read off it."""

import importlib.metadata
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain import transport
from onnxexplain.errors import MethodError, nearest
from onnxexplain.graph import Model, ReceptiveField, receptive_fields
from onnxexplain.methods.answer import Request

if TYPE_CHECKING:
    from onnxexplain.explainer import Explainer

Array = np.ndarray[Any, Any]


@dataclass
class Results:
    """Raw arrays by name, T in front where several targets were asked for."""

    raw: dict[str, Array]
    values: dict[str, Array]
    target: Array | None
    several: bool
    blocks: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    difference: float | None = None

    @classmethod
    def joined(cls, singles: "list[Results]") -> "Results":
        """Return the results of samples that ran one by one as those of one batch."""
        first = singles[0]
        axis = 1 if first.several else 0
        raw = {n: np.concatenate([s.raw[n] for s in singles], axis) for n in first.raw}
        values = {n: np.concatenate([s.values[n] for s in singles]) for n in first.values}
        targets = [s.target for s in singles if s.target is not None]
        target = np.concatenate(targets, axis) if len(targets) == len(singles) else None
        return cls(raw, values, target, first.several, first.blocks, first.shapes, first.difference)

    @classmethod
    def stacked(cls, rows: "list[Results]") -> "Results":
        """Return the results of several targets, computed one by one, with T in front."""
        first = rows[0]
        raw = {n: np.stack([row.raw[n] for row in rows]) for n in first.raw}
        target = np.stack([row.target for row in rows if row.target is not None])
        return cls(raw, first.values, target, True, first.blocks, first.shapes, first.difference)


class Explanation:
    """Why a model scored as it did.

    With ``targets`` every array has a leading axis T; without it there is none.

    Attributes
    ----------
    attributions : dict of str to ndarray
        by tensor, in the tensor's own shape, float32; a CAM's raw map [N,1,h,w] under its layer.
    target : ndarray or None
        the class explained, [N]; None for an element or a combination of the output.
    output : str
        the tensor whose score is explained.
    logits : ndarray
        that tensor's values, [N, classes, ...].
    score : ndarray
        the explained score, [N].
    constant : ndarray or None
        what all constants of the network added, [N]; None where the method shares nothing out.
    constants : dict of str to ndarray
        the same by the tensor each was added to.
    residual : ndarray or None
        ``(score - shares - constant) / max(1, |score|)``, each computed apart, [N].
    """

    def __init__(
        self,
        explainer: "Explainer",
        inputs: dict[str, Array],
        results: Results,
        aims: tuple[Any, Any],
        seconds: float,
    ) -> None:
        self._explainer, self._aims, self._results = explainer, aims, results
        self.inputs = inputs
        self.seconds = seconds
        self._spread: dict[str, Array] | None = None
        raw = results.raw
        self.attributions = _named(raw, "attribution/")
        self.target = results.target
        self.score: Array = raw["score"]
        self.logits = results.values[self.output]
        self.constants = _named(raw, "constants/")
        shares = self._explainer.method.shares
        self.constant: Array | None = None
        self.residual: Array | None = None
        if shares:
            given = sum(_named(raw, "total/").values())
            self.constant = np.asarray(sum(self.constants.values(), np.zeros_like(self.score)))
            rest = self.score - given - self.constant
            self.residual = rest / np.maximum(1, np.abs(self.score))

    def __repr__(self) -> str:
        end = "" if self.residual is None else f", residual {np.abs(self.residual).max():.1e}"
        score = np.array2string(self.score, precision=4, separator=", ").replace("\n", "")
        return f"<Explanation of `{self.output}` by {self.method}: score {score}{end}>"

    # ----- what was asked -----

    @property
    def method(self) -> str:
        """The method's name."""
        return self._explainer.method.name

    @property
    def options(self) -> dict[str, Any]:
        """The method's options as given."""
        return dict(self._explainer.options)

    @property
    def model(self) -> Model:
        """The model explained."""
        return self._explainer.model

    @property
    def output(self) -> str:
        """The tensor whose score is explained."""
        return self._explainer.output

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes, where there are any."""
        return self._explainer.labels

    @property
    def layer(self) -> str | None:
        """The tensor a CAM looked at."""
        return next(iter(self.attributions)) if self._explainer.method.cam else None

    @property
    def difference(self) -> float | None:
        """How far the lowered model is from the file, relative; None where nothing changed."""
        return self._results.difference

    @property
    def blocks(self) -> tuple[str, ...]:
        """The tensors that end a block: convolution or product, normalisation, activation."""
        return self._results.blocks

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions of everything that computed this."""
        from onnxexplain import __version__

        found = {"onnxexplain": __version__}
        for name in ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "cupy-cuda13x"):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found

    # ----- layers -----

    @cached_property
    def layers(self) -> "Layers":
        """Any tensor on the way, by name; computed when it is first asked for."""
        return Layers(self)

    def more(self, request: Request) -> Results:
        """Compute what was not asked for at first, on the same inputs and targets.

        Class by class: whole layers of all classes at once would fill the memory.
        """
        if self._results.several and self.target is not None:
            rows = [self._explainer.compute(self.inputs, row, None, request) for row in self.target]
            return Results.stacked(rows)
        chosen, several = self._aims if self.target is None else (self.target, None)
        return self._explainer.compute(self.inputs, chosen, several, request)

    def fetch(
        self,
        *,
        layers: Sequence[str] = (),
        maps: Sequence[str] = (),
        statistics: Sequence[str] = (),
        constants: bool = False,
    ) -> None:
        """Compute ahead, in one run, what would otherwise be computed when first asked for.

        Parameters
        ----------
        layers
            tensors whose score and constant will be read.
        maps
            tensors whose score map and constant map will be read.
        statistics
            tensors whose statistics will be read.
        constants
            whether the final map will be drawn.
        """
        mapped = tuple(n for n in maps if len(self._results.shapes[n]) > 2)
        results = self.more(Request(tuple(layers), mapped, tuple(statistics), constants, False))
        for name in dict.fromkeys((*layers, *mapped, *statistics)):
            self.layers[name]._take(results)
        if constants:
            self._spread = _named(results.raw, "spread/")

    def field_of(self, tensor: str) -> ReceptiveField | None:
        """Return the receptive field of a tensor's units, None where they have none."""
        return self._fields.get(tensor)

    @cached_property
    def _fields(self) -> dict[str, ReceptiveField]:
        if self.source is None:
            return {}
        one = {n: v[:1] if v.ndim else v for n, v in self.inputs.items()}
        lowered = self._explainer.prepare(one).lowered
        nominal = getattr(self._explainer.method, "receptive_field", "true") == "nominal"
        return receptive_fields(lowered.nodes, lowered.shapes, self.source, nominal=nominal)

    @property
    def source(self) -> str | None:
        """The input that maps are drawn over: the first with positions."""
        return next((n for n, v in self.inputs.items() if v.ndim > 2), None)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The spatial sizes of that input."""
        if self.source is None:
            raise MethodError("the model has no input with positions to carry a map to")
        shape = self.inputs[self.source].shape
        axis = channel_axis(self.model, self.source, len(shape))
        return tuple(n for i, n in enumerate(shape) if i not in (0, axis))

    def to_input(self, tensor: str, values: Array) -> Array:
        """Carry a map [..., h, w] of a tensor to the input [..., H, W], its sum unchanged."""
        sizes = self.sizes
        prior = getattr(self._explainer.method, "prior", "gauss")
        return transport.to_input(values, self.field_of(tensor), sizes, prior)

    # ----- maps -----

    def heatmap(self, *, constants: bool = True) -> Array:
        """Return one map per sample, [N,H,W]: the attributions summed over channels.

        Score propagation gives its final map, shares and transported constants together, which adds
        up to the score; ``constants=False`` leaves them out. A CAM is resized to the input,
        bilinearly. A signal gives [N,L], a volume [N,D,H,W], a table [N,F].
        """
        if self._explainer.method.cam:
            return self._resized()
        name = next(iter(self.attributions))
        shares = self.attributions[name]
        lead = 1 if self._results.several else 0
        rank = shares.ndim - lead
        if rank > 2:
            shares = shares.sum(axis=channel_axis(self.model, name, rank) + lead)
        if constants and self.method == "score-propagation" and name == self.source:
            return shares + self.constant_map
        return np.asarray(shares)

    @cached_property
    def constant_map(self) -> Array:
        """All constants of the network, carried to the input and added up: [N,H,W]."""
        if self._spread is None:
            self.fetch(constants=True)
        spread = self._spread or {}
        sizes = self.sizes
        total: Array = np.zeros((*self.score.shape, *sizes), np.float64)
        for name, values in spread.items():
            total += self.to_input(name, np.squeeze(values, -len(sizes) - 1))
        flat = [n for n in self.constants if n not in spread]
        for name in flat:  # behind the flatten: the whole image is what such a unit sees
            column = self.constants[name].reshape(*self.score.shape, *(1,) * len(sizes))
            total += transport.to_input(
                column, None, sizes, getattr(self._explainer.method, "prior", "gauss")
            )
        return total.astype(np.float32)

    def two_sigma(self, deviations: float = 2.0) -> Array:
        """Return where the map lies more than so many standard deviations above zero."""
        maps = self.heatmap()
        axes = tuple(range(self.score.ndim, maps.ndim))
        return np.asarray(maps > deviations * maps.std(axis=axes, keepdims=True, ddof=1))

    def _resized(self) -> Array:
        cam = next(iter(self.attributions.values()))
        if self.source is None:
            return cam
        return transport.resize(np.squeeze(cam, self.score.ndim), self.sizes)

    # ----- out of Python -----

    def arrays(self) -> dict[str, Array]:
        """Return every array under the name it has in a saved file."""
        found = {f"attribution/{n}": v for n, v in self.attributions.items()}
        for name in self.layers.held:
            layer = self.layers[name]
            found[f"score/{name}"] = layer.score
            if self._explainer.method.shares:
                found[f"constant/{name}"] = layer.constant
        return found

    def save(self, folder: str | Path, stem: str = "explanation") -> Path:
        """Write ``<stem>.npz``, ``.json`` and ``.png`` into a folder and return the folder."""
        from onnxexplain import save

        return save.save(self, Path(folder), stem)

    def plot(self, image: Any = None, cmap: str | None = None) -> Any:
        """Return a matplotlib figure of the maps, over ``image`` where one is given."""
        from onnxexplain import plot

        return plot.explanation_figure(self, image=image, cmap=cmap)

    def _repr_png_(self) -> bytes:
        import io

        buffer = io.BytesIO()
        self.plot().savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


@dataclass(frozen=True)
class Statistics:
    """What the authors print of a map: its extremes, mean and deviation (with n - 1)."""

    maximum: Array
    minimum: Array
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array, axes: int) -> "Statistics":
        """Return the statistics of arrays whose first ``axes`` axes are samples."""
        flat = values.reshape(*values.shape[:axes], -1).astype(np.float64)
        return cls(flat.max(-1), flat.min(-1), flat.mean(-1), flat.std(-1, ddof=1))


@dataclass
class Layer:
    """One tensor: its activation, its score, the constant of its block, where it looks."""

    name: str
    _of: Explanation
    _held: dict[str, Array] = field(default_factory=dict)

    @property
    def score(self) -> Array:
        """The share of each unit, or its derivative for gradient methods, in the tensor's shape."""
        return self._whole("score")

    @property
    def constant(self) -> Array:
        """What was born in the block that ends in this tensor, in the tensor's shape."""
        return self._whole("constant")

    @property
    def activation(self) -> Array:
        """The tensor itself."""
        return self._whole("value")

    @property
    def statistics(self) -> Statistics:
        """Maximum, minimum, mean and deviation of the score over the whole tensor, per sample."""
        if "sum" not in self._held:
            blocks = self._of.blocks
            self._of.fetch(statistics=blocks if self.name in blocks else (self.name,))
        many = math.prod(self._of._results.shapes[self.name][1:])
        mean = self._held["sum"] / many
        variance = np.maximum(self._held["squares"] / many - mean**2, 0) * many / max(many - 1, 1)
        return Statistics(self._held["maximum"], self._held["minimum"], mean, np.sqrt(variance))

    @property
    def score_map(self) -> Array:
        """The score summed over channels, [N,h,w]."""
        return self._map("score")

    @property
    def constant_map(self) -> Array:
        """The constant summed over channels, [N,h,w]."""
        return self._map("constant")

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """Size, stride and start of the receptive field, per spatial axis."""
        return self._of.field_of(self.name)

    def to_input(self, values: Array | None = None) -> Array:
        """Carry a map of this tensor (its score map by default) to the input [..., H, W]."""
        return self._of.to_input(self.name, self.score_map if values is None else values)

    def _whole(self, kind: str) -> Array:
        if kind not in self._held:
            self._of.fetch(layers=(self.name,))
        return self._kept(kind)

    def _map(self, kind: str) -> Array:
        if kind in self._held:
            return np.asarray(self._held[kind].sum(axis=self._of.score.ndim))
        if f"{kind}_map" not in self._held:
            shape = self._of._results.shapes[self.name]
            if len(shape) < 3:
                raise MethodError(f"`{self.name}` has no positions to draw (shape {list(shape)})")
            self._of.fetch(maps=self._of.blocks if self.name in self._of.blocks else (self.name,))
        return self._kept(f"{kind}_map")

    def _kept(self, kind: str) -> Array:
        if kind not in self._held:
            raise MethodError(f"{self._of.method} shares nothing out: `{self.name}` has no {kind}")
        return self._held[kind]

    def _take(self, results: Results) -> None:
        if self.name in results.values:
            self._held["value"] = results.values[self.name]
        for kind in ("score", "constant", "maximum", "minimum", "sum", "squares"):
            if f"{kind}/{self.name}" in results.raw:
                self._held[kind] = results.raw[f"{kind}/{self.name}"]
            if f"{kind}_map/{self.name}" in results.raw:
                channel = np.squeeze(results.raw[f"{kind}_map/{self.name}"], self._of.score.ndim)
                self._held[f"{kind}_map"] = channel


class Layers(Mapping[str, Layer]):
    """Every float tensor of the user's graph on the way, by name."""

    def __init__(self, of: Explanation) -> None:
        self._of = of
        self._names = of._explainer.tensors(of.inputs)
        self._layers: dict[str, Layer] = {}
        self.held = tuple(_named(of._results.raw, "score/"))
        for name in self.held:
            self[name]._take(of._results)

    def __getitem__(self, name: str) -> Layer:
        if name not in self._names:
            raise MethodError(f"no tensor `{name}` on the way{nearest(name, self._names)}")
        return self._layers.setdefault(name, Layer(name, self._of))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _named(raw: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {n.removeprefix(prefix): v for n, v in raw.items() if n.startswith(prefix)}


def channel_axis(model: Model, name: str, rank: int) -> int:
    """Axis 1, or the last of an image whose channels come last."""
    info = model.inputs.get(name)
    shape = info.shape if info is not None and info.shape is not None else ()
    if rank == 4 and len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4):
        return 3
    return 1
