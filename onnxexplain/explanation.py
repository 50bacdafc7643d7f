"""What an explanation holds, and what can be read off it."""

import importlib.metadata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain import transport
from onnxexplain.errors import MethodError
from onnxexplain.graph import Model, ReceptiveField, receptive_fields
from onnxexplain.layers import Layers
from onnxexplain.methods.answer import Request
from onnxexplain.results import Results, named

if TYPE_CHECKING:
    from onnxexplain.explainer import Explainer
    from onnxexplain.prepared import Prepared

Array = np.ndarray[Any, Any]


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
        self._question = explainer.question
        self.inputs = inputs
        self.seconds = seconds
        self._spread: dict[str, Array] | None = None
        raw = results.raw
        self.attributions = named(raw, "attribution/")
        self.target = results.target
        self.score: Array = raw["score"]
        self.logits = results.values[self.output]
        self.constants = named(raw, "constants/")
        self.constant: Array | None = None
        self.residual: Array | None = None
        if self.shares_out:
            given = sum(named(raw, "total/").values())
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
        return self._question.method.name

    @property
    def options(self) -> dict[str, Any]:
        """The method's options as given."""
        return dict(self._explainer.options)

    @property
    def model(self) -> Model:
        """The model explained."""
        return self._question.model

    @property
    def output(self) -> str:
        """The tensor whose score is explained."""
        return self._question.output

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes, where there are any."""
        return self._question.labels

    @property
    def layer(self) -> str | None:
        """The tensor a CAM looked at."""
        return next(iter(self.attributions)) if self._question.method.cam else None

    @property
    def difference(self) -> float | None:
        """How far the lowered model is from the file, relative; None where nothing changed."""
        return self._prepared.difference

    @property
    def blocks(self) -> tuple[str, ...]:
        """The tensors that end a block: convolution or product, normalisation, activation."""
        return self._prepared.blocks

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
    def tensors(self) -> tuple[str, ...]:
        """The float tensors of the user's own graph on the way, input side first."""
        return self._explainer.tensors(self.inputs)

    @cached_property
    def layers(self) -> "Layers":
        """Any tensor on the way, by name; computed when it is first asked for."""
        return Layers(self, self._results)

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
        mapped = tuple(n for n in maps if len(self.shape_of(n)) > 2)
        results = self.more(Request(tuple(layers), mapped, tuple(statistics), constants, False))
        self.layers.take(dict.fromkeys((*layers, *mapped, *statistics)), results)
        if constants:
            self._spread = named(results.raw, "spread/")

    @cached_property
    def _prepared(self) -> "Prepared":
        return self._explainer.prepare_one(self.inputs)

    @property
    def _prior(self) -> str:
        return getattr(self._question.method, "prior", "gauss")

    @property
    def shares_out(self) -> bool:
        """Whether shares and constants add up to the score."""
        return self._question.method.shares

    @property
    def channels_last(self) -> frozenset[str]:
        """The tensors whose channels are on the last axis."""
        return self._prepared.channels_last

    def shape_of(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the model for one sample, batch axis included."""
        return self._prepared.lowered.shapes[tensor]

    def field_of(self, tensor: str) -> ReceptiveField | None:
        """Return the receptive field of a tensor's units, None where they have none."""
        return self._fields.get(tensor)

    @cached_property
    def _fields(self) -> dict[str, ReceptiveField]:
        if self.source is None:
            return {}
        lowered = self._prepared.lowered
        nominal = getattr(self._question.method, "receptive_field", "true") == "nominal"
        return receptive_fields(lowered.nodes, lowered.shapes, self.source, nominal=nominal)

    @property
    def source(self) -> str | None:
        """The input that maps are drawn over: the first attributed one with positions."""
        placed = [n for n, v in self.inputs.items() if v.ndim > 2]
        return next((n for n in placed if n in self.attributions), next(iter(placed), None))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The spatial sizes of that input."""
        if self.source is None:
            raise MethodError("the model has no input with positions to carry a map to")
        shape = self.inputs[self.source].shape
        axis = len(shape) - 1 if self.source in self.channels_last else 1
        return tuple(n for i, n in enumerate(shape) if i not in (0, axis))

    def to_input(self, tensor: str, values: Array) -> Array:
        """Carry a map [..., h, w] of a tensor to the input [..., H, W], its sum unchanged."""
        sizes = self.sizes
        prior = self._prior
        return transport.to_input(values, self.field_of(tensor), sizes, prior)

    # ----- maps -----

    def heatmap(self, *, constants: bool = True) -> Array:
        """Return one map per sample, [N,H,W]: the attributions summed over channels.

        Score propagation gives its final map, shares and transported constants together, which adds
        up to the score; ``constants=False`` leaves them out. With several attributed inputs it is
        that of the first with positions, and the others hold the rest. A CAM is resized to the
        input, bilinearly. A signal gives [N,L], a volume [N,D,H,W], a table [N,F].
        """
        if self._question.method.cam:
            return self._resized()
        name = self.source if self.source in self.attributions else next(iter(self.attributions))
        shares = self.attributions[name]
        lead = 1 if self._results.several else 0
        rank = shares.ndim - lead
        if rank > 2:
            shares = shares.sum(axis=-1 if name in self.channels_last else 1 + lead)
        if constants and self.method == "score-propagation" and name == self.source:
            return shares + self.constant_map
        return np.asarray(shares)

    @cached_property
    def constant_map(self) -> Array:
        """All constants of the network, carried to the input and added up: [N,H,W]."""
        if self._spread is None:
            self.fetch(constants=True)
        spread = {n: v for n, v in (self._spread or {}).items() if self.field_of(n) is not None}
        sizes = self.sizes
        total: Array = np.zeros((*self.score.shape, *sizes), np.float64)
        for name, values in spread.items():
            total += self.to_input(name, np.squeeze(values, -len(sizes) - 1))
        flat = [n for n in self.constants if n not in spread]
        for name in flat:  # behind the flatten, among tokens: such a unit sees the whole image
            column = self.constants[name].reshape(*self.score.shape, *(1,) * len(sizes))
            total += transport.to_input(column, None, sizes, self._prior)
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
            if self.shares_out:
                found[f"constant/{name}"] = layer.constant
        return found

    def save(self, folder: str | Path, stem: str = "explanation") -> Path:
        """Write ``<stem>.npz``, ``.json`` and ``.png`` into a folder and return the folder."""
        from onnxexplain import save

        return save.save(self, Path(folder), stem)

    def plot(self, image: Any = None, cmap: str | None = None) -> Any:
        """Return a matplotlib figure of the maps, over ``image`` where one is given."""
        from onnxexplain.figures import plot

        return plot.explanation_figure(self, image=image, cmap=cmap)

    def _repr_png_(self) -> bytes:
        import io

        buffer = io.BytesIO()
        self.plot().savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()
