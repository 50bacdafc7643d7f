"""What an explanation holds, and what can be read off it."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxexplain import boxes, transport
from onnxexplain.answered import Answered
from onnxexplain.boxes import Box
from onnxexplain.errors import MethodError, nearest
from onnxexplain.probability import probabilities

Array = np.ndarray[Any, Any]


class Explanation(Answered):
    """Why a model scored as it did.

    With ``targets`` every array has a leading axis T; without it there is none.

    Attributes
    ----------
    attributions : dict of str to ndarray
        by tensor, in its own shape and the dtype asked for; a CAM's raw map [N,1,h,w] under
        its layer.
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
    difference : float or None
        how far the answer is from the file's, relative to its largest output, where the model was
        changed to be explained; the most of any sample or model. None where nothing was changed.
    runtime_difference : float or None
        how far ONNX Runtime is from the file on this processor, where its sums overflow.
    members : tuple of Explanation
        the explanations of an ensemble's models; none otherwise.
    """

    members: "tuple[Explanation, ...]" = ()

    def __repr__(self) -> str:
        end = "" if self.residual is None else f", residual {np.abs(self.residual).max():.1e}"
        score = np.array2string(self.score, precision=4, separator=", ").replace("\n", "")
        return f"<Explanation of `{self.output}` by {self.method}: score {score}{end}>"

    # ----- maps -----

    def heatmap(self, *, constants: bool = True, layer: str | None = None) -> Array:
        """Return one map per sample, [N,H,W]: the attributions summed over channels.

        Score propagation gives its final map, shares and transported constants together, which adds
        up to the score; ``constants=False`` leaves them out. With several attributed inputs it is
        that of the first with positions, and the others hold the rest. A CAM is resized to the
        input, bilinearly. Fixations give the density of their points. A signal gives [N,L], a
        volume [N,D,H,W], a table [N,F].

        Where all layers were looked at, ``layer`` says whose map it is; by default that of the one
        a CAM looks at.
        """
        if layer is not None and layer not in self.all_layers:
            raise MethodError(f"no map of the layer `{layer}`{nearest(layer, self.all_layers)}")
        if self._question.method.cam:
            return self._resized(layer or self.layer)
        name = layer or self._mapped
        if (drawn := self._results.raw.get(f"extra/heatmap/{name}")) is not None:
            return drawn
        lead = 1 if self._results.several else 0
        shares = self.by_sample(self.attributions[name], lead)
        rank = shares.ndim - lead
        if rank > 2:
            last = (self.source if self.all_layers else name) in self.channels_last
            shares = shares.sum(axis=-1 if last else 1 + lead)
        if constants and self.method == "score-propagation" and name == self.source:
            return shares + self.constant_map
        return np.asarray(shares)

    @property
    def _mapped(self) -> str:
        """The attributed tensor whose map is drawn: the first input with positions, if any."""
        if self.all_layers:
            return self._prepared.layer or self.all_layers[-1]
        source = self.source
        return source if source in self.attributions else next(iter(self.attributions))

    @cached_property
    def points(self) -> list[Any] | None:
        """The fixations: per sample an int array [K,2] of (y, x) in input pixels, top row first.

        With ``targets`` such a list per target. A signal gives [K,1], a volume [K,3], a table [K,1]
        (its features). None for every other method.
        """
        counts = self._results.raw.get(f"extra/fixations/{self._mapped}")
        if counts is None:
            return None
        if self._results.several:
            return [[np.argwhere(sample) for sample in row] for row in counts]
        return [np.argwhere(sample) for sample in counts]

    @cached_property
    def constant_map(self) -> Array:
        """All constants of the network, carried to the input and added up: [N,H,W]."""
        if self._spread is None:
            self.fetch(constants=True)
        spread = {n: v for n, v in (self._spread or {}).items() if self.field_of(n) is not None}
        sizes = self.sizes
        total: Array = np.zeros((*self.score.shape, *sizes), np.float64)
        steps = {n.outputs[0]: n.part_of for n in self._prepared.nodes if n.part_of}
        wholes = set(steps.values())  # told as one total; less of it is left for each map
        flat = {n: v for n, v in self.constants.items() if n not in spread or n in wholes}
        for name, values in spread.items():
            total += self.to_input(name, np.squeeze(values, -len(sizes) - 1))
            if name in steps:
                on_map = values.sum(axis=tuple(range(self.score.ndim, values.ndim)))
                flat[steps[name]] = flat[steps[name]] - on_map
        for left in flat.values():  # behind the flatten, among tokens: such a unit sees all
            column = left.reshape(*self.score.shape, *(1,) * len(sizes))
            total += transport.to_input(column, None, sizes, self._prior)
        return total.astype(np.float32)

    @cached_property
    def probabilities(self) -> Array:
        """The probability of every class, [N,K], by the softmax or sigmoid that the file ends in.

        A file without one counts as having a sigmoid if it has one score, else a softmax.
        """
        return probabilities(self.model, self.output, self.logits)

    def boxes(self, threshold: float = 0.5, *, min_size: int = 1) -> list[Box]:
        """Return boxes around what the maps are strong at, as one list of records.

        A pixel counts where the map is at least ``threshold`` times its maximum (of that sample and
        target); pixels that share an edge hang together, and each such part has a box. Sample by
        sample, target by target, the strongest box first.

        Parameters
        ----------
        threshold
            a part of the map's maximum, 0 to 1.
        min_size
            boxes narrower or lower than so many pixels are left out.

        Returns
        -------
        list of dict
            ``sample``, ``class``, ``label``, ``probability``, ``x0``, ``y0``, ``x1``, ``y1``
            (pixels of the input; the last column and row lie outside), ``peak`` (the map's largest
            value in the box, relative to its maximum) and ``area`` (pixels above the threshold).

        Raises
        ------
        MethodError
            if the maps have no two axes, or an option is out of range.
        """
        return boxes.find(self, threshold, min_size=min_size)

    def two_sigma(self, deviations: float = 2.0) -> Array:
        """Return where the map lies more than so many standard deviations above zero."""
        maps = self.heatmap()
        axes = tuple(range(self.score.ndim, maps.ndim))
        return np.asarray(maps > deviations * maps.std(axis=axes, keepdims=True, ddof=1))

    def _resized(self, layer: str | None) -> Array:
        cam = self.attributions[str(layer)]
        if self.source is None:
            return cam
        lead, sizes = self.score.ndim, self.sizes
        places = cam.shape[lead + 1 :]
        more = len(places) - len(sizes)  # a signal may be looked at as a picture of one row
        if more > 0 and set(places[:more]) == {1}:
            places = places[more:]
        return transport.resize(cam.reshape(*cam.shape[:lead], *places), sizes)

    # ----- out of Python -----

    def arrays(self) -> dict[str, Array]:
        """Return every array under the name it has in a saved file."""
        found = {f"attribution/{n}": v for n, v in self.attributions.items()}
        if self.points is not None:  # rows of (sample, y, x), with targets (target, sample, y, x)
            found["points"] = np.argwhere(self._results.raw[f"extra/fixations/{self._mapped}"])
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

    def plot(
        self,
        image: Any = None,
        cmap: str | None = None,
        *,
        kind: str = "maps",
        boxes: float | None = None,
        min_size: int = 1,
        known: Sequence[Any] = (),
    ) -> Any:
        """Return a matplotlib figure.

        Parameters
        ----------
        image
            what stands beside the maps; by default the input itself.
        cmap
            another matplotlib colour map.
        kind
            ``maps``, or ``signs``: what raises the score and what lowers it, apart, of the first
            sample.
        boxes, min_size
            with ``maps``: boxes drawn from this part of each map's maximum; see :meth:`boxes`.
        known
            a box (x0, y0, x1, y1) in pixels of the input, or several: where an object is known to
            be. They are outlined on every map.
        """
        from onnxexplain.figures import plot

        options: dict[str, Any] = {"boxes": boxes, "min_size": min_size, "known": known}
        return plot.figure(self, kind, image=image, cmap=cmap, **options)

    def _repr_png_(self) -> bytes:
        from onnxexplain.figures.panels import png

        return png(self.plot())
