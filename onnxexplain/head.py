"""The part of a model behind a layer, run again on other values of that layer."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxexplain import feeds as given
from onnxexplain.errors import InputError, MethodError, ModelError
from onnxexplain.graph import Lowered
from onnxexplain.graph.cut import behind, cut, fed
from onnxexplain.prepared import Prepared, Question, lowered_for
from onnxexplain.runtime import Session, evaluate

Array = np.ndarray[Any, Any]
Rows = Callable[[Array], tuple[Array, Array]]
Run = Callable[[Array, Array], Array]
"""Takes the layer's values [R,...] and the sample [R] of each; returns the outputs [R,...]."""

ROOM = 1 << 27
"""Bytes that the tensors of rows run together may take."""


@dataclass(frozen=True)
class Head:
    """What follows the layer of a prepared model; see :class:`~onnxexplain.methods.Head`.

    ``values`` holds the tensors of the whole model at the samples at hand.
    """

    question: Question
    prepared: Prepared
    feeds: Mapping[str, Array]
    values: Mapping[str, Array]

    def __call__(self, count: int, rows: Rows) -> Iterator[tuple[Array, Array]]:
        """Yield indices below ``count``, piece by piece, and the outputs of those rows.

        Many rows run as one batch, if the first of them come out as they do alone; a model whose
        batch axis is fixed, or whose samples look at each other, takes one row at a time.

        Raises
        ------
        MethodError
            if the layer or the scores do not keep the batch axis.
        """
        self._check()
        many = min(count, max(1, ROOM // self._bytes()))
        if many == self._samples > 1:
            many += 1  # so that a tensor's shape tells whether it holds one row or all samples
        run = (self._together(many, rows) if many > 1 else None) or self._alone
        for start in range(0, count, many):
            piece = np.arange(start, min(start + many, count))
            yield piece, run(*rows(piece))

    def _check(self) -> None:
        name, layer = self.question.method.name, self.values[self._layer]
        if layer.ndim < 3 or len(layer) != self._samples:
            shape = list(layer.shape)
            raise MethodError(
                f"{name}: `{self._layer}` {shape} has no batch axis in front, or no positions; "
                "name another tensor with layer="
            )

    @property
    def _layer(self) -> str:
        return str(self.prepared.layer)

    @property
    def _samples(self) -> int:
        return len(self.values[self.question.output])

    def _bytes(self) -> int:
        """How much memory one row takes."""
        shapes = self.prepared.lowered.shapes
        part = behind(self.prepared.lowered.nodes, self._layer, self.question.output)
        made = [self._layer, *(t for node in part for t in node.outputs)]
        return sum(4 * math.prod(shapes.get(t, ())) for t in made) // self._samples + 1

    # ----- one row at a time -----

    def _alone(self, values: Array, samples: Array) -> Array:
        """Run each row in its sample's place among the samples at hand."""
        found = []
        for row, sample in zip(values, samples, strict=True):
            layer = self.values[self._layer].copy()
            layer[sample] = row
            beside = {n: self.values[n] for n in self._own.inputs}
            found.append(self._own.run(beside | {self._layer: layer})[sample])
        return np.stack(found)

    @cached_property
    def _own(self) -> "_Part":
        return _Part.of(self, self.prepared.lowered)

    # ----- many rows as one batch -----

    def _together(self, many: int, rows: Rows) -> Run | None:
        """Return what runs so many rows at once; None where they would not come out as alone."""
        cut_up = given.per_sample(self.question.model)
        sizes = {n: (many, *v.shape[1:]) if n in cut_up else v.shape for n, v in self.feeds.items()}
        values, samples = rows(np.arange(many))
        ends = [0, many - 1]
        try:
            part = _Part.of(self, lowered_for(self.question.model, sizes, self.question.dtype))
            if not self._fits(part, many):
                return None
            run = functools.partial(self._batch, part, many)
            found = run(values, samples)[ends]
        except (ModelError, InputError):  # the inside of the model is made for one sample
            return None
        alone = self._alone(values[ends], samples[ends])
        largest = float(np.abs(alone).max())
        return run if np.allclose(found, alone, rtol=1e-4, atol=1e-4 * largest) else None

    def _fits(self, part: "_Part", many: int) -> bool:
        """Whether every tensor that comes in keeps the batch axis, or is the same for all."""
        for name in part.inputs:
            shape = self.values[name].shape if name in self.values else None
            if shape is None or part.shapes.get(name) not in (shape, (many, *shape[1:])):
                return False
        return part.shapes[self.question.output][:1] == (many,)

    def _batch(self, part: "_Part", many: int, values: Array, samples: Array) -> Array:
        """Run rows as one batch of ``many``, filled up with the last of them."""
        order = np.minimum(np.arange(many), len(values) - 1)
        inputs = {self._layer: values[order]}
        for name in part.inputs:
            if name != self._layer:
                own = self.values[name]
                inputs[name] = own if part.shapes[name] == own.shape else own[samples[order]]
        return part.run(inputs)[: len(values)]


@dataclass(frozen=True)
class _Part:
    """The part of a lowered model behind a layer, ready to run."""

    inputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    run: Callable[[dict[str, Array]], Array]

    @classmethod
    def of(cls, head: Head, lowered: Lowered) -> "_Part":
        layer, output = str(head.prepared.layer), head.question.output
        nodes = behind(lowered.nodes, layer, output)
        names = fed(lowered.nodes, head.feeds, layer, output)
        dtypes = {n: head.values[n].dtype for n in names if n in head.values}
        proto = cut(lowered.proto, nodes, dtypes, output)
        if head.question.dtype == "float64" or not lowered.runs:
            return cls(tuple(names), lowered.shapes, lambda x: evaluate(proto, x, [output])[output])
        session = Session(proto, head.question.device)

        def run(inputs: dict[str, Array]) -> Array:
            return np.asarray(session.run(inputs, [output])[0])

        return cls(tuple(names), lowered.shapes, run)
