"""What a method is, where it is looked up, and the way back it is handed."""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from onnxexplain.errors import MethodError, nearest
from onnxexplain.graph import Node
from onnxexplain.reverse import Choose, Step, reverse
from onnxexplain.tensor import Namespace, Tensor

Array = np.ndarray[Any, Any]


def on_cpu(value: Tensor) -> Array:
    """Return an array of any library as NumPy's."""
    return np.asarray(value.get() if hasattr(value, "get") else value)


@dataclass(frozen=True)
class Way:
    """The way from a score back to what it is explained by, at one point.

    The same for both engines: ``xp`` and ``values`` are arrays in one, symbols in the other.
    """

    xp: Namespace
    nodes: tuple[Node, ...]
    values: Mapping[str, Tensor]
    moving: frozenset[str]
    wrt: tuple[str, ...]
    output: str
    seed: Tensor
    layer: str | None = None
    channels_last: frozenset[str] = frozenset()
    layers: tuple[str, ...] = ()
    """Every layer looked at, input side first; ``layer`` alone unless all were asked for."""
    head: "Head | None" = None
    """Runs the part of the model behind the layer again; set for a method that says ``heads``."""

    def channel_sum(self, tensor: str, g: Tensor, v: Tensor) -> Tensor:
        """Sum of ``g * v`` over a tensor's channels: [N,1,...], wherever the channels were."""
        if tensor not in self.channels_last:
            return self.xp.channel_dot(g, v)
        return self.first(tensor, self.xp.sum(self.xp.scale(g, v), axis=-1, keepdims=True))

    def first(self, tensor: str, value: Tensor) -> Tensor:
        """A value in a tensor's layout with its channels on axis 1."""
        if tensor not in self.channels_last:
            return value
        return self.xp.permute_dims(value, (0, value.ndim - 1, *range(1, value.ndim - 1)))

    def own(self, tensor: str, value: Tensor) -> Tensor:
        """A value with its channels on axis 1 in a tensor's own layout."""
        if tensor not in self.channels_last:
            return value
        return self.xp.permute_dims(value, (0, *range(2, value.ndim), 1))

    def back(self, choose: Choose) -> dict[str, Tensor]:
        """Send the seed back and return what arrived at every tensor."""
        seed = {self.output: self.seed}
        found = reverse(self.xp, self.nodes, self.values, self.moving, seed, choose)
        for name in self.wrt:
            if name not in found:  # the score does not depend on it
                found[name] = self.xp.zeros_like(self.values[name])
        return found

    def dot(self, g: Tensor, v: Tensor) -> Tensor:
        """Sum of ``g * v`` per sample, in float64: [N].

        Samples share a run only where every tensor keeps the batch axis; where one runs alone,
        axis 0 of a tensor may be anything.
        """
        total = self.xp.dot(g, v)
        if total.shape == tuple(self.seed.shape[:1]):
            return total
        return self.xp.sum(total, axis=0, keepdims=True)

    def step(self, node: Node) -> Step:
        """Return a node with its tensors."""
        return Step.at(self.xp, node, self.values, self.moving)


class Head(Protocol):
    """The part of a model behind a layer, run on other values of it."""

    def __call__(
        self, count: int, rows: Callable[[Array], tuple[Array, Array]]
    ) -> Iterator[tuple[Array, Array]]:
        """Yield pieces of ``0 .. count - 1`` and the model's output for each.

        ``rows`` is asked for such a piece: it returns the layer's values [R,...] and which sample
        [R] each one is of; the rest of the model keeps that sample's values.
        """


@dataclass(frozen=True)
class Found:
    """What a method gives: attributions by tensor, and what arrived at every tensor."""

    attributions: dict[str, Tensor]
    arrived: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)
    """What else it found, by name: arrays with the batch axis first."""


class Method:
    """A way to explain. A method is a frozen dataclass whose fields are its options."""

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str]
    shares: ClassVar[bool] = False
    """Whether shares and constants add up to the score."""
    cam: ClassVar[bool] = False
    """Whether it explains by a layer's map instead of the input."""
    layered: ClassVar[bool] = False
    """Whether it looks at a layer: a CAM does, and what is made with one."""
    compiles: ClassVar[bool] = True
    """Whether it can be written as ONNX nodes; what looks at values while it runs cannot."""
    heads: ClassVar[bool] = False
    """Whether it looks at nothing before its layer, and runs what is behind it again."""
    everywhere: ClassVar[bool] = False
    """Whether it can look at all layers in one go (``layer="all"``)."""

    def reading(self, way: Way) -> Way:
        """Return the way as this method reads its operators: as they are, unless it says so."""
        return way

    def __call__(self, way: Way) -> Found:
        """Explain by what the way back brings."""
        raise NotImplementedError


_METHODS: dict[str, type[Method]] = {}


def method(
    name: str,
    *,
    summary: str,
    reference: str,
    shares: bool = False,
    cam: bool = False,
    layered: bool = False,
    compiles: bool = True,
    heads: bool = False,
    everywhere: bool = False,
) -> Callable[[type], type]:
    """Register the decorated frozen dataclass as a method under ``name``."""

    def register(cls: type) -> type:
        cls.name, cls.summary, cls.reference = name, summary, reference  # type: ignore[attr-defined]
        cls.shares, cls.cam = shares, cam  # type: ignore[attr-defined]
        cls.layered, cls.compiles = cam or layered, compiles  # type: ignore[attr-defined]
        cls.heads, cls.everywhere = heads, everywhere  # type: ignore[attr-defined]
        _METHODS[name] = cls
        return cls

    return register


def make(name: str, options: Mapping[str, Any]) -> Method:
    """Return the method ``name`` with its options set.

    Raises
    ------
    MethodError
        if there is no such method or option, or an option's value is none of its choices.
    """
    if name not in _METHODS:
        raise MethodError(f"no method `{name}`{nearest(name, _METHODS)}")
    cls = _METHODS[name]
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key, value in options.items():
        if key not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise MethodError(f"{name}: no option `{key}`; it {has}")
        _check(name, key, value, typing.get_type_hints(cls)[key])
    return cls(**options)


def _check(name: str, key: str, value: Any, hint: Any) -> None:
    choices: Sequence[Any] = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal and value not in choices:
        raise MethodError(f"{name}: {key} is `{value}`; it must be one of {', '.join(choices)}")
    if hint is bool and not isinstance(value, bool):
        raise MethodError(f"{name}: {key} is `{value}`; it must be true or false")
    if hint is int and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise MethodError(f"{name}: {key} is `{value}`; it must be a whole number above zero")


def methods() -> list[dict[str, Any]]:
    """Return one record per method: name, summary, reference, options with their defaults."""
    return [
        {
            "name": name,
            "summary": cls.summary,
            "reference": cls.reference,
            "shares": cls.shares,
            "cam": cls.cam,
            "options": {f.name: f.default for f in dataclasses.fields(cls)},  # type: ignore[arg-type]
        }
        for name, cls in sorted(_METHODS.items())
    ]
