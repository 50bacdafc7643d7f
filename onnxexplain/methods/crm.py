"""Class-selective relevance mapping."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnxexplain.graph.cut import behind
from onnxexplain.methods._method import Array, Found, Method, Way, method, on_cpu
from onnxexplain.methods.grad_cam import layer_maps
from onnxexplain.rules import Plan, chain
from onnxexplain.tensor import Tensor

_AFFINE = frozenset(
    (
        "Conv ConvTranspose Gemm MatMul Add Sub Sum Mean Neg BatchNormalization ReduceSum "
        "ReduceMean AveragePool GlobalAveragePool Concat Flatten Reshape Squeeze Unsqueeze "
        "Transpose Identity Cast"
    ).split()
)
"""Operators that are affine in what moves, where only one factor of a product does."""
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@method(
    "crm",
    summary="how much the score changes, squared, when a place of the layer is taken away",
    reference="Kim, Rajaraman and Antani 2019, Diagnostics 9(2):38",
    cam=True,
    compiles=False,
    heads=True,
)
@dataclass(frozen=True)
class Crm(Method):
    """``(f - f without the place)^2``, the layer's maps being zero at that place.

    The square loses the sign: a place that speaks against the class counts like one that speaks
    for it. Behind a global average pool and a linear layer it is the CAM's square, over ``(HW)^2``.

    Parameters
    ----------
    combined
        whether the changes of all classes are added up, whatever the target: the authors' map of
        everything the model looks at.
    """

    combined: bool = False

    def __call__(self, way: Way) -> Found:
        """Take every place away, or read off what that would change where the head is affine."""
        layer = str(way.layer)
        maps = layer_maps(way, "crm", layer)
        if _affine(way, layer):
            lost = (way.channel_sum(layer, g, way.values[layer]) for g in self._sent(way, layer))
            return Found({layer: sum(change**2 for change in lost)}, {})
        found = self._taken_away(way, layer).reshape(maps.shape[0], 1, *maps.shape[2:])
        return Found({layer: way.xp.constant(found, maps)}, {})

    # ----- an affine head: what a place adds is what its absence takes -----

    def _sent(self, way: Way, layer: str) -> Iterator[Tensor]:
        """Yield the derivative at the layer of the target, or of every class in turn."""
        for seed in _each_class(way.seed) if self.combined else (way.seed,):
            yield replace(way, seed=seed, wrt=(layer,)).back(Plan(("*", chain)))[layer]

    # ----- any other: the head is run without each place -----

    def _taken_away(self, way: Way, layer: str) -> Array:
        """Return the squares of the changes, [N, places]."""
        values, seed = on_cpu(way.values[layer]), on_cpu(way.seed).astype(np.float64)
        channel = values.ndim - 1 if layer in way.channels_last else 1
        alive = np.any(values != 0, axis=channel).reshape(len(values), -1)
        found = np.zeros(alive.shape)
        samples, places = np.nonzero(alive)  # the absence of nothing changes nothing
        # The samples as they are come first: what is compared must come out of the same run.
        samples = np.concatenate([np.arange(len(values)), samples])
        places = np.concatenate([np.full(len(values), -1), places])

        def rows(piece: Array) -> tuple[Array, Array]:
            taken = np.moveaxis(values[samples[piece]], channel, 1)
            flat = taken.reshape(*taken.shape[:2], -1).copy()
            gone = np.nonzero(places[piece] >= 0)[0]
            flat[gone, :, places[piece][gone]] = 0
            return np.moveaxis(flat.reshape(taken.shape), 1, channel), samples[piece]

        if way.head is None:
            raise LookupError("crm runs the part of the model behind its layer: it needs way.head")
        whole: Array = np.zeros(seed.shape)
        for piece, outputs in way.head(len(samples), rows):
            of, at = samples[piece], places[piece]
            whole[of[at < 0]] = outputs[at < 0]
            change = whole[of[at >= 0]] - outputs[at >= 0]
            found[of[at >= 0], at[at >= 0]] = self._square(change, seed[of[at >= 0]])
        return found

    def _square(self, change: Array, seed: Array) -> Array:
        """Return the square of the target's change [R,...], or the sum of every class's."""
        if not self.combined:
            return np.asarray((seed * change).sum(axis=tuple(range(1, change.ndim))) ** 2)
        classes = change.sum(axis=tuple(range(2, change.ndim)))  # over the positions of each
        return np.asarray((classes**2).sum(axis=tuple(range(1, classes.ndim))))


def _each_class(seed: Tensor) -> Iterator[Tensor]:
    """Yield the seed of every class of the output, its positions summed over."""
    for c in range(seed.shape[1] if seed.ndim > 1 else 1):
        one = seed * 0
        if seed.ndim > 1:
            one[:, c] = 1
        else:
            one[:] = 1
        yield one


def _affine(way: Way, layer: str) -> bool:
    """Whether the score is an affine function of the layer, all else being as it is."""
    reached = {layer}
    for node in behind(way.nodes, layer, way.output):
        moving = [t for t in node.reads if t in reached]
        product = node.op_type in _PRODUCTS and len(moving) > 1
        if node.domain or node.op_type not in _AFFINE or product:
            return False
        reached.update(node.outputs)
    return True
