"""The figure of a volume: slices along its first axis, every class in a row of its own."""

from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.figures.panels import LEAST, Panel, Scale, sheet
from onnxexplain.figures.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

SLICES = 7
"""How many slices are drawn: evenly spaced, the one that weighs most among them."""


def volume_figure(view: View, cmap: str | None = None) -> "Figure":
    """Return the figure of one sample whose maps are volumes [T,D,H,W]: slices of every class.

    Above them are the same slices of the input, its channels averaged, where the maps lie over it.
    """
    maps = view.maps
    depth = maps.shape[1]
    at = _slices(np.abs(maps).sum(axis=(0, 2, 3), dtype=np.float64))
    seen = _seen(view)
    panels = [] if seen is None else [Panel(seen[d], f"input\n{_which(d, depth)}") for d in at]
    for values, title in zip(maps, view.titles(), strict=True):
        name = title.split("\n")[0]
        for d in at:
            total = values[d].sum(dtype=np.float64)
            panels.append(Panel(values[d], f"{name}, {_which(d, depth)}\nsum {total:.3g}"))
    return sheet(panels, _scale(view, maps, cmap), _heading(view, len(at)), len(at), LEAST // 2)


def _slices(weights: Array) -> list[int]:
    depth = len(weights)
    if depth <= SLICES:
        return list(range(depth))
    places = np.linspace(0, depth - 1, SLICES).round().astype(int)
    strongest = int(weights.argmax())
    places[np.abs(places - strongest).argmin()] = strongest
    return [int(d) for d in places]


def _which(d: int, depth: int) -> str:
    return f"slice {d + 1} of {depth}"


def _seen(view: View) -> Array | None:
    """The input in grey, uint8 [D,H,W,3]."""
    source = view.e.source
    if source is None or not view.over_input:
        return None
    values = view.e.inputs[source][view.i].astype(np.float64)
    values = values.mean(axis=-1 if source in view.e.channels_last else 0)
    low, high = float(values.min()), float(values.max())
    grey = (values - low) / (high - low or 1.0) * 255
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=-1)


def _scale(view: View, maps: Array, cmap: str | None) -> Scale:
    if view.cam or view.e.points is not None:
        return Scale.positive(list(maps), cmap, "weight of the place")
    unit = "effect, per place" if view.e.residual is None else "share of the score, per place"
    return (Scale.signed if view.signed else Scale.strength)(list(maps), cmap, unit)


def _heading(view: View, drawn: int) -> str:
    count, depth = view.e.score.shape[-1], view.maps.shape[1]
    said = f"{view.e.method}: {view.verdict()}"
    if count > 1:
        said += f" The first of {count} samples."
    if drawn < depth:
        said += f" {drawn} of {depth} slices, the one that weighs most among them."
    if view.cam:
        return f"{said} Bright is where the class is seen in `{view.e.layer}`."
    if view.whole:
        return f"{said} All slices of a class together add up to its score."
    return said
