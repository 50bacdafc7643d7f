"""The tensors on the way: what arrived at each, and what was born before it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.errors import MethodError, nearest
from onnxexplain.graph import ReceptiveField
from onnxexplain.results import Results, named

if TYPE_CHECKING:
    from onnxexplain.answered import Answered

Array = np.ndarray[Any, Any]


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
    _of: "Answered"
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
        many = math.prod(self._of.shape_of(self.name)[1:])
        mean = self._kept("sum") / many
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
            last = self.name in self._of.channels_last
            return np.asarray(self._held[kind].sum(axis=-1 if last else self._of.score.ndim))
        if f"{kind}_map" not in self._held:
            shape = self._of.shape_of(self.name)
            if len(shape) < 3:
                raise MethodError(f"`{self.name}` has no positions to draw (shape {list(shape)})")
            self._of.fetch(maps=self._of.blocks if self.name in self._of.blocks else (self.name,))
        return self._kept(f"{kind}_map")

    def _kept(self, kind: str) -> Array:
        if kind not in self._held:
            raise MethodError(f"{self._of.method} shares nothing out: `{self.name}` has no {kind}")
        return self._held[kind]

    def take(self, results: Results) -> None:
        """File what was computed for this tensor."""
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

    def __init__(self, of: "Answered", results: Results) -> None:
        self._of = of
        self._names = of.tensors
        self._layers: dict[str, Layer] = {}
        self.held = tuple(named(results.raw, "score/"))
        """Those that were asked for from the start."""
        self.take(self.held, results)

    def __getitem__(self, name: str) -> Layer:
        if name not in self._names:
            raise MethodError(f"no tensor `{name}` on the way{nearest(name, self._names)}")
        return self._layers.setdefault(name, Layer(name, self._of))

    def take(self, names: Iterable[str], results: Results) -> None:
        """File what was computed for some tensors."""
        for name in names:
            self[name].take(results)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
