"""What raises a score and what lowers it, apart: the figure of the backpropagation notebooks."""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from onnxexplain.errors import MethodError
from onnxexplain.figures.outlines import known
from onnxexplain.figures.panels import Panel, Scale, sheet
from onnxexplain.figures.view import View
from onnxexplain.photograph.image import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

CAP = 99.0
"""Percentile at which a grey map is white already, so that a few extremes do not leave it black."""


def signs_figure(view: View) -> "Figure":
    """Return the figure of three by three for the leading class.

    The photograph, what the model sees of it, and the attribution summed over channels (where the
    photograph is not given, what the model sees, the sum, and the one on the other); below, the
    attribution in the colours of its channels: all of it, its positive and its negative part, each
    between 0 and 1; below that the same in grey, magnitudes summed over channels, cut off at the
    99th percentile. In the colours of "all" no effect is the grey between the extremes.

    Raises
    ------
    MethodError
        if the method attributes nothing to a picture's pixels.
    """
    e = view.e
    if view.cam or e.all_layers or not view.has_positions:
        raise MethodError(
            f"{e.method}: the figure of signs is made of a picture's pixels, and here are none"
        )
    values = view.pick(e.attributions[view.first])[view.leading]
    channels = values[None] if values.ndim == 2 else values
    if values.ndim > 2 and view.first in e.channels_last:
        channels = np.moveaxis(values, -1, 0)
    parts = {
        "all": channels,
        "positive": np.maximum(channels, 0),
        "negative": np.maximum(-channels, 0),
    }
    paper = np.full((*channels.shape[1:], 3), 255, np.uint8)
    total = channels.sum(axis=0)
    summed = Panel(Scale.signed([total]).rgb(total), "sum over channels\nred raises, blue lowers")
    panels = [*_seen(view, paper), summed]
    if len(panels) < 3:
        panels.append(Panel(_mixed(panels), "the one on the other"))
    panels += [Panel(_coloured(view, v), name) for name, v in parts.items()]
    panels += [
        Panel(_rgb(capped(v)), f"{name}, sum over channels\nup to the {CAP:.0f}th percentile")
        for name, v in parts.items()
    ]
    more = f" The first of {e.score.shape[-1]} samples." if e.score.shape[-1] > 1 else ""
    heading = (
        f"{e.method}: what raises {view.names[view.leading]} and what lowers it. "
        f"{view.verdict()}{more}"
    )
    whole = isinstance(view.image, Picture)  # on paper, where boxes lie elsewhere
    return sheet([*panels[:whole], *known(view, panels[whole:])], None, heading, 3)


def scaled(channels: Array) -> Array:
    """Return values shifted and scaled to 0 to 1; zeros where all are alike."""
    low, high = float(channels.min()), float(channels.max())
    return (channels - low) / (high - low) if high > low else np.zeros_like(channels)


def capped(channels: Array) -> Array:
    """Return the map [H,W] of magnitudes summed over channels [C,H,W], between 0 and 1.

    Its least value is 0; its 99th percentile, and what is above, is 1.
    """
    total = np.abs(channels).sum(axis=0) if channels.ndim > 2 else np.abs(channels)
    low, high = float(total.min()), float(np.percentile(total, CAP))
    if high <= low:  # so few pixels that none would be left: the greatest value is the limit
        high = float(total.max())
    return np.clip((total - low) / (high - low), 0, 1) if high > low else np.zeros_like(total)


# ----- Panels -----


def _coloured(view: View, channels: Array) -> Array:
    """Return attributions in the colours of their channels, uint8 [H,W,3]."""
    values = scaled(channels)
    if len(values) != 3:
        return _rgb(values.mean(axis=0))
    recipe = view.image.recipe.record() if isinstance(view.image, Picture) else None
    order = (recipe or view.e.model.preprocess or {}).get("channels")
    rgb = values[::-1] if order == "bgr" else values
    return np.asarray((rgb.transpose(1, 2, 0) * 255).round().astype(np.uint8))


def _rgb(grey: Array) -> Array:
    return np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, axis=-1)


def _seen(view: View, paper: Array) -> list[Panel]:
    """Return the photograph whole, where there is one, and what the model sees of it."""
    height, width = paper.shape[:2]
    values = paper if view.photograph is None else view.photograph
    panels = [Panel(values, f"what the model sees\n{width} x {height}")]
    if isinstance(view.image, Picture):
        whole = Image.fromarray(view.image.photo)
        fitted = ImageOps.pad(whole, (width, height), color="white")
        panels.insert(
            0, Panel(np.asarray(fitted), f"the photograph\n{whole.width} x {whole.height}")
        )
    return panels


def _mixed(panels: list[Panel]) -> Array:
    mean = np.mean([panel.values for panel in panels], axis=0)
    return np.asarray(mean.round().astype(np.uint8))
