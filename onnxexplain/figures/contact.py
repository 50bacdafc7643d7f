"""All layers on one sheet: the map of each, from the first to the last."""

import math
from typing import TYPE_CHECKING

import numpy as np

from onnxexplain.errors import MethodError
from onnxexplain.figures.outlines import known
from onnxexplain.figures.panels import Panel, Scale, sheet
from onnxexplain.figures.pictures import reduced
from onnxexplain.figures.signs import CAP, capped
from onnxexplain.figures.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxexplain.figures.panels import Array

MOST = 39
"""How many layers are drawn; of more, as many evenly spaced, the first and the last among them."""

SIDE = 320
"""How many pixels a map has on its longer side, at the most."""


def contact_figure(view: View, cmap: str | None = None) -> "Figure":
    """Return the sheet of the leading class: every layer's map over what the model sees.

    Each map stands over its own maximum, for layers differ in their units. Guided Grad-CAM is drawn
    in grey, as its authors do: magnitudes summed over channels, cut off at the 99th percentile.

    Raises
    ------
    MethodError
        if not all layers were looked at, or their maps are no pictures.
    """
    e = view.e
    if not e.all_layers or not view.has_positions:
        raise MethodError(f'{e.method}: no sheet of layers to draw; layer="all" makes their maps')
    names = list(e.all_layers)
    if len(names) > MOST:
        names = [names[i] for i in np.linspace(0, len(names) - 1, MOST).round().astype(int)]
    photograph = None if view.photograph is None else _smaller(view.photograph)
    panels = [] if photograph is None else [Panel(photograph, "what the model sees")]
    panels += [_panel(view, name, photograph) for name in names]
    low = min(0.0, *(float(p.values.min()) for p in panels if not p.photograph))
    grey, said = cmap or "gray", f"of each map's {CAP:.0f}th percentile"
    scale = (
        Scale.between(low, 1.0, cmap, "of each map's maximum")
        if view.cam
        else Scale.between(0.0, 1.0, grey, said)
    )
    columns = _columns(len(panels))
    return sheet(known(view, panels), scale, _heading(view, len(names)), columns, least=200)


def _panel(view: View, name: str, photograph: "Array | None") -> Panel:
    values = view.pick(view.e.attributions[name])[view.leading]
    if not view.cam:
        last = view.e.source in view.e.channels_last
        channels = values if values.ndim == 2 else np.moveaxis(values, -1 if last else 0, 0)
        return Panel(reduced(capped(channels), SIDE), name)
    said = f"{name}\n{values.shape[-1]} x {values.shape[-2]}"
    drawn = view.pick(view.e.heatmap(layer=name))[view.leading]
    return Panel(reduced(_over_its_maximum(drawn), SIDE), said, photograph)


def _smaller(photograph: "Array") -> "Array":
    """A photograph as large as the maps beside it."""
    planes = [reduced(photograph[..., c].astype(np.float32), SIDE) for c in range(3)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def _over_its_maximum(values: "Array") -> "Array":
    most = float(np.abs(values).max())
    return values / most if most > 0 else values


def _columns(panels: int) -> int:
    return min(panels, max(4, math.ceil(math.sqrt(1.6 * panels))))


def _heading(view: View, drawn: int) -> str:
    e = view.e
    many = len(e.all_layers)
    which = "every layer" if drawn == many else f"{drawn} of {many} layers"
    more = f" The first of {e.score.shape[-1]} samples." if e.score.shape[-1] > 1 else ""
    return (
        f"{e.method} at {which}, from the first to the last, for {view.names[view.leading]}. "
        f"{view.verdict()}{more}"
    )
