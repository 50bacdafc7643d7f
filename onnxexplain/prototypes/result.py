"""What a prototype holds, and what can be read off it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxexplain.graph import Model
from onnxexplain.probability import probabilities
from onnxexplain.prototypes.canvas import Canvas
from onnxexplain.prototypes.objective import Loss
from onnxexplain.versions import versions

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prototype:
    """One image for each target, and how it came about.

    Attributes
    ----------
    images : ndarray
        the prototypes [T,...], as the model takes them: its input's shape and preprocessing.
    target : ndarray
        the class of each, [T].
    loss : ndarray
        the loss before every step and after the last, [steps + 1].
    losses : dict of str to ndarray
        its parts, [steps + 1] each: ``score`` (the cross-entropy, or minus the logit), and the
        penalties asked for, times their weights: ``mean``, ``l2``, ``tv``.
    logits : ndarray
        the model's scores of the prototypes, [T, classes, ...].
    start, mean : ndarray
        what it started from and what it was drawn towards, [T,...]; ``mean`` may be None.
    frames : ndarray
        the images on the way, [frames,T,...], at the steps ``frame_steps``.
    """

    images: Array
    target: Array
    loss: Array
    losses: dict[str, Array]
    logits: Array
    start: Array
    mean: Array | None
    frames: Array
    frame_steps: tuple[int, ...]
    model: Model
    output: str
    labels: list[str] | None
    options: dict[str, Any]
    canvas: Canvas
    seconds: float
    versions: dict[str, str] = field(default_factory=versions)

    def __repr__(self) -> str:
        many = "1 class" if len(self.target) == 1 else f"{len(self.target)} classes"
        return f"<Prototype of {many} of {self.model.source}: loss {self.loss[-1]:.3g}>"

    @property
    def method(self) -> str:
        """The method's name."""
        return Loss.name

    @cached_property
    def probabilities(self) -> Array:
        """The probability the model gives to every class, [T,K]."""
        return probabilities(self.model, self.output, self.logits)

    @property
    def names(self) -> list[str]:
        """What each target is called: its label, or ``class 3``."""
        labels = self.labels or [str(c) for c in range(int(self.target.max()) + 1)]
        named = [labels[c].split(",")[0] for c in self.target]
        pairs = zip(named, self.target, strict=True)
        return [label if label != str(c) else f"class {c}" for label, c in pairs]

    def arrays(self) -> dict[str, Array]:
        """Return every array under the name it has in a saved file."""
        found = {"images": self.images, "target": self.target, "start": self.start}
        if self.mean is not None:
            found["mean"] = self.mean
        found |= {"logits": self.logits, "loss": self.loss}
        return found | {f"loss/{name}": part for name, part in self.losses.items()}

    def record(self) -> dict[str, Any]:
        """Return what was done and what came out, as JSON takes it."""
        from onnxexplain.save import FORMAT

        own = self.probabilities[np.arange(len(self.target)), self.target]
        return {
            "format": FORMAT,
            "model": self.model.source,
            "model_sha256": self.model.sha256,
            "versions": self.versions,
            "method": self.method,
            "options": self.options,
            "target": self.target.tolist(),
            "label": self.names if self.labels else None,
            "output": self.output,
            "logits": self.logits.tolist(),
            "probability": own.tolist(),
            "loss": {
                "first": float(self.loss[0]),
                "last": float(self.loss[-1]),
                "parts": {name: float(part[-1]) for name, part in self.losses.items()},
            },
            "preprocess": self.canvas.recipe.record() if self.canvas.told else None,
            "seconds": round(self.seconds, 4),
        }

    def contents(self, cmap: str | None = None) -> dict[str, bytes]:
        """Return the files of a prototype by suffix: arrays, record, pictures, how it was made."""
        import json

        from onnxexplain.figures import prototypes as figures
        from onnxexplain.figures.panels import png
        from onnxexplain.save import npz

        made = {".npz": npz(self.arrays())}
        made[".png"] = png(figures.images_figure(self, cmap))
        made[".loss.png"] = png(figures.loss_figure(self))
        if len(self.frames) > 1 and self.canvas.sizes:
            made[".gif"] = figures.animation(self)
        made[".json"] = json.dumps(self.record(), indent=2, default=str).encode()
        return made

    def save(self, folder: str | Path, stem: str = "prototype") -> Path:
        """Write ``<stem>.npz``, ``.png``, ``.loss.png``, ``.gif`` and ``.json``; return the folder.

        The ``.gif`` is written where frames were kept.
        """
        from onnxexplain.save import write_whole

        for suffix, content in self.contents().items():
            write_whole(Path(folder) / f"{stem}{suffix}", content)
        return Path(folder)

    def plot(self, cmap: str | None = None) -> Any:
        """Return a matplotlib figure of the images."""
        from onnxexplain.figures import prototypes as figures

        return figures.images_figure(self, cmap)

    def plot_loss(self) -> Any:
        """Return a matplotlib figure of the loss and its parts."""
        from onnxexplain.figures import prototypes as figures

        return figures.loss_figure(self)

    def _repr_png_(self) -> bytes:
        from onnxexplain.figures.panels import png

        return png(self.plot())
