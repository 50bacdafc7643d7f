"""What was asked and what came back: scores, totals, and the layers the way went through."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain import transport
from onnxexplain.errors import MethodError
from onnxexplain.graph import Model, ReceptiveField, receptive_fields
from onnxexplain.layers import Layers
from onnxexplain.methods.answer import Request
from onnxexplain.methods.layers import EVERY
from onnxexplain.results import Results, named
from onnxexplain.target import SUM
from onnxexplain.versions import versions

if TYPE_CHECKING:
    from onnxexplain.explainer import Explainer
    from onnxexplain.prepared import Prepared

Array = np.ndarray[Any, Any]


class Answered:
    """An explanation's numbers; :class:`~onnxexplain.Explanation` draws and files them."""

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
        self.difference = results.difference
        self.runtime_difference = results.runtime_difference
        self.constants = named(raw, "constants/")
        self.constant: Array | None = None
        self.residual: Array | None = None
        if self.shares_out:
            given = sum(named(raw, "total/").values())
            self.constant = np.asarray(sum(self.constants.values(), np.zeros_like(self.score)))
            rest = self.score - given - self.constant
            self.residual = rest / np.maximum(1, np.abs(self.score))

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
    def summed(self) -> bool:
        """Whether the score is the sum of all the output's, as ``target="sum"`` asks for."""
        asked = self._aims[0]
        return self.target is None and isinstance(asked, str) and asked == SUM

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes, where there are any."""
        return self._question.labels

    @property
    def layer(self) -> str | None:
        """The tensor a CAM looked at; of all layers, the one it looks at by default."""
        if not self._question.method.cam:
            return None
        default = self._prepared.layer
        return default if default in self.attributions else next(reversed(self.attributions))

    @property
    def all_layers(self) -> tuple[str, ...]:
        """The layers looked at, input side first, where ``layer="all"`` asked for all."""
        every = self._question.layer == EVERY
        return tuple(self.attributions) if every else ()

    @property
    def blocks(self) -> tuple[str, ...]:
        """The tensors that end a block: convolution or product, normalisation, activation."""
        return self._prepared.blocks

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions of everything that computed this."""
        return versions()

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
        return receptive_fields(
            lowered.nodes,
            lowered.shapes,
            self.source,
            nominal=nominal,
            constants=lowered.constants,
        )

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
        shape = self.by_sample(self.inputs[self.source]).shape
        axis = len(shape) - 1 if self.source in self.channels_last else 1
        return tuple(n for i, n in enumerate(shape) if i not in (0, axis))

    def by_sample(self, values: Array, lead: int = 0) -> Array:
        """Return values with the samples on axis ``lead``, where a sequence has its steps there.

        Such a sequence [steps, 1, channels] is one sample.
        """
        sequence = values.ndim > lead + 2 and values.shape[lead + 1] == 1 < values.shape[lead]
        alone = self.score.shape[-1] == 1
        return np.swapaxes(values, lead, lead + 1) if sequence and alone else values

    def to_input(self, tensor: str, values: Array) -> Array:
        """Carry a map [..., h, w] of a tensor to the input [..., H, W], its sum unchanged."""
        sizes = self.sizes
        prior = self._prior
        return transport.to_input(values, self.field_of(tensor), sizes, prior)
