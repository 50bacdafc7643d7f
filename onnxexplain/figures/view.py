"""One sample of an explanation, as a person looks at it: class by class, in plain words."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.figures.pictures import reduced
from onnxexplain.layers import Statistics
from onnxexplain.photograph.image import Picture, as_photograph
from onnxexplain.probability import independent

if TYPE_CHECKING:
    from onnxexplain.explanation import Explanation

Array = np.ndarray[Any, Any]

MOST_CLASSES = 12
"""How many classes are drawn side by side; of more the strongest are."""


CARRIED = 320
"""How many pixels the map of a layer over the input keeps on its longer side."""


@dataclass(frozen=True)
class Carried:
    """What a layer holds, over the input: maps [T,h,w], whole sums [T], the authors' statistics."""

    score: Array
    constant: Array
    score_sum: Array
    constant_sum: Array
    score_statistics: Statistics
    constant_statistics: Statistics


Place = tuple[float, float, float, float]
"""A box x0, y0, x1, y1 in pixels; the last column and row lie outside."""


@dataclass(frozen=True)
class View:
    """Sample ``i`` of an explanation; every array it gives has the classes in front.

    ``image`` is what stands beside the maps: a :class:`Picture` or uint8
    [H,W,3]; without it the input itself is shown. ``truth`` is the true class, where it is known;
    ``known`` is where objects are known to be, to be outlined on every map.
    """

    e: "Explanation"
    i: int = 0
    image: Any = None
    truth: int | None = None
    known: tuple[Place, ...] = ()

    @cached_property
    def shown(self) -> list[int]:
        """Which of the classes asked for are drawn, in their order."""
        count = 1 if self.e.options.get("combined") else self._score.shape[0]
        strongest = np.argsort(-self._score, kind="stable")[:MOST_CLASSES]
        return sorted(int(k) for k in strongest) if count > MOST_CLASSES else list(range(count))

    def pick(self, values: Array) -> Array:
        """Return the shown classes of this sample out of [N,...] or [T,N,...]."""
        many = values if self.e.score.ndim == 2 else values[None]
        return np.asarray(many[self.shown, self.i])

    @property
    def _score(self) -> Array:
        many = self.e.score if self.e.score.ndim == 2 else self.e.score[None]
        return np.asarray(many[:, self.i])

    # ----- words -----

    @cached_property
    def classes(self) -> list[int | None]:
        """The class of every map; None for an element or a combination of the output."""
        if self.e.target is None:
            return [None] * len(self.shown)
        return [int(c) for c in self.pick(self.e.target)]

    @cached_property
    def scores(self) -> list[float]:
        """The score of every class shown."""
        return [float(s) for s in self.pick(self.e.score)]

    @cached_property
    def logits(self) -> Array:
        """The scores of all classes, [K]; positions summed over, as a class target has it."""
        own = self.e.logits[self.i].astype(np.float64)
        return np.asarray(own.reshape(own.shape[0], -1).sum(-1) if own.ndim else own.reshape(1))

    @property
    def predicted(self) -> int:
        """The strongest class."""
        return int(self.logits.argmax())

    @cached_property
    def leading(self) -> int:
        """Which of the shown classes is looked at alone: the predicted one, or the strongest."""
        if self.predicted in self.classes:
            return self.classes.index(self.predicted)
        return int(np.argmax(self.scores))

    def name(self, target: int | None) -> str:
        """Return a class as number and label: ``4 proliferative DR``."""
        if target is None:
            return "the sum of all scores" if self.e.summed else "the chosen combination"
        if len(self.logits) == 1 and not self.e.labels:
            return "the score"
        labels = self.e.labels
        known = labels is not None and target < len(labels)
        label = labels[target].split(",")[0] if known and labels else ""
        return f"{target} {label}" if label and label != str(target) else f"class {target}"

    @cached_property
    def names(self) -> list[str]:
        """The name of every class shown."""
        return [self.name(c) for c in self.classes]

    def residuals(self) -> list[float] | None:
        """Return what is unaccounted for, by class; None for methods that share nothing out."""
        if self.e.residual is None:
            return None
        return [float(r) for r in self.pick(self.e.residual)]

    def titles(self) -> list[str]:
        """Return what stands above every class's map."""
        if self.e.options.get("combined"):  # the map is of all of them, whichever is asked for
            return ["all classes\ntogether"] * len(self.names)
        rest = self.residuals()
        ends = [f", residual {abs(r):.0e}" for r in rest] if rest else [""] * len(self.names)
        return [
            f"{name}\nscore {score:.5g}{end}"
            for name, score, end in zip(self.names, self.scores, ends, strict=True)
        ]

    def claim(self) -> str:
        """Say in a few words what is explained: what the model predicts, or its one score."""
        if len(self.logits) == 1:
            return f"scores {self.logits[0]:.5g}"
        return f"says: {self.said()}"

    def said(self) -> str:
        """Name the strongest class; where each has a probability of its own, all above one half."""
        if not independent(self.e.model, self.e.output):
            return self.name(self.predicted)
        odds = self.e.probabilities[self.i]
        there = [self.name(int(c)) for c in np.flatnonzero(odds > 0.5)]
        if not there:
            return f"none; the likeliest is {self.name(int(odds.argmax()))}"
        return ", ".join(there[:MOST_CLASSES]) + (" ..." if len(there) > MOST_CLASSES else "")

    def verdict(self) -> str:
        """Say what the model predicts, and what is true where that is known."""
        if len(self.logits) == 1:
            return f"It scores {self.logits[0]:.5g}."
        said = f"Predicted: {self.said()}."
        return said if self.truth is None else f"{said} True: {self.name(self.truth)}."

    # ----- pictures -----

    @property
    def over_input(self) -> bool:
        """Whether the maps lie over the input: those of a CAM, and shares of the input itself."""
        own = self.cam or self.first == self.e.source or bool(self.e.all_layers)
        return self.e.source is not None and own

    @property
    def first(self) -> str:
        """The tensor whose attribution is drawn."""
        return next(iter(self.e.attributions))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Height and width of the maps, where they have them."""
        if self.over_input:
            return self.e.sizes
        return tuple(self.e.attributions[self.first].shape[self.e.score.ndim + 1 :])

    @property
    def has_positions(self) -> bool:
        """Whether the maps are pictures: two spatial axes."""
        return len(self.sizes) == 2

    @cached_property
    def photograph(self) -> Array | None:
        """What the model sees, uint8 [H,W,3], at the input's own resolution."""
        if not self.has_positions or not self.over_input or self.e.source is None:
            return None
        if isinstance(self.image, Picture):
            return self.image.seen
        if self.image is not None:
            return _matching(np.asarray(self.image), self.e.sizes)
        values = self.e.inputs[self.e.source]
        last = self.e.source in self.e.channels_last
        return as_photograph(values[self.i], last, self.e.model.preprocess)

    @cached_property
    def maps(self) -> Array:
        """The final map of every class, [T,H,W]."""
        return self.pick(self.e.heatmap())

    @cached_property
    def points(self) -> list[Array] | None:
        """The fixations of every class, (y, x) in the maps, int [K,2]; None for other methods."""
        if self.e.points is None or not self.has_positions:
            return None
        rows = self.e.points if self.e.score.ndim == 2 else [self.e.points]
        return [rows[k][self.i] for k in self.shown]

    def flat(self) -> list[tuple[str, Array]]:
        """Return every attribution as rows of numbers, [T,F], by the name of its tensor."""
        found = {name: self.pick(values) for name, values in self.e.attributions.items()}
        return [(name, values.reshape(len(values), -1)) for name, values in found.items()]

    def parts(self) -> tuple[Array, Array]:
        """Return the map of the shares and the map of the constants, each [T,H,W]."""
        shares = self.pick(self.e.heatmap(constants=False))
        return shares, self.maps - shares

    def two_sigma(self, deviations: float = 2.0) -> Array:
        """Return where every class's map is that many deviations above zero, bool [T,H,W]."""
        return self.pick(self.e.two_sigma(deviations))

    def deviations(self) -> Array:
        """Return the standard deviation of every class's map."""
        return np.asarray(self.maps.std(axis=(1, 2), ddof=1))

    @property
    def whole(self) -> bool:
        """Whether the final map holds constants too, so that it adds up to the score."""
        return self.e.method == "score-propagation" and self.first == self.e.source

    @property
    def signed(self) -> bool:
        """Whether the maps tell what speaks for a class from what speaks against it."""
        return bool((self.maps < 0).any()) or self.e.residual is not None

    @property
    def cam(self) -> bool:
        """Whether it is a map of a layer, to be laid over the image."""
        return self.e.layer is not None

    @property
    def smooth(self) -> bool:
        """Whether the maps are smooth and lie over the image: a CAM's, and those of fixations."""
        return self.cam or self.points is not None

    # ----- layers -----

    def blocks(self) -> list[str]:
        """Return the tensors with positions that end a block, input side first."""
        return [n for n in self.e.blocks if self._positions(n) > 1 and self.e.field_of(n)]

    def carried(self, tensor: str) -> "Carried":
        """Return a layer's score and constants as maps over the input, drawn once and kept."""
        if tensor not in self._carried:
            layer = self.e.layers[tensor]
            score = self.pick(layer.to_input(layer.score_map))
            constant = self.pick(layer.to_input(layer.constant_map))
            self._carried[tensor] = Carried(
                np.stack([reduced(m, CARRIED) for m in score]),
                np.stack([reduced(m, CARRIED) for m in constant]),
                score.sum(axis=(1, 2)),
                constant.sum(axis=(1, 2)),
                layer.statistics,
                Statistics.of(constant, 1),
            )
        return self._carried[tensor]

    @cached_property
    def _carried(self) -> "dict[str, Carried]":
        return {}

    def _positions(self, tensor: str) -> int:
        shape = self.e.shape_of(tensor)
        return int(np.prod(shape[2:])) if len(shape) == 4 else 0

    def features(self) -> str | None:
        """Return the tensor that the last product reads, where it has one value per feature."""
        makers = {t: node for node in self.e.model.nodes for t in node.outputs}
        known = set(self.e.layers)
        tensor: str | None = self.e.output
        while tensor is not None and (node := makers.get(tensor)) is not None:
            before = next((t for t in node.inputs if t in known), None)
            if node.op_type in ("Gemm", "MatMul") and before is not None:
                shape = self.e.shape_of(before)
                return before if shape[1] == np.prod(shape[1:]) and shape[1] > 1 else None
            if node.op_type in ("Conv", "ConvTranspose"):
                return None
            tensor = before
        return None

    def unit_scores(self, tensor: str) -> Array:
        """Return the score of every feature, [T,F]."""
        scores = self.pick(self.e.layers[tensor].score)
        return np.asarray(scores.reshape(len(scores), -1))


def _matching(image: Array, sizes: tuple[int, ...]) -> Array:
    """Return an image as uint8 RGB of the input's size."""
    from PIL import Image

    if image.dtype.kind == "f":
        image = image * (255 if image.max() <= 1 else 1)
    made = Image.fromarray(np.squeeze(image).astype(np.uint8)).convert("RGB")
    size = (sizes[1], sizes[0])
    return np.asarray(made if made.size == size else made.resize(size))
