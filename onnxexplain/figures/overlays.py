"""Smooth maps over the photograph: those of a CAM, and of fixations with their dots."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from onnxexplain.figures.panels import Panel
from onnxexplain.figures.view import View
from onnxexplain.photograph.image import Picture

Array = np.ndarray[Any, Any]

DOT = 90
"""The shorter side of a photograph holds so many dots' radii."""

INK = "#ffd92f"
"""A yellow that shows on fur and leaves; its black rim shows on sand and snow."""


def smooth_panels(view: View, titles: list[str]) -> list[Panel]:
    """A CAM lies over the whole photograph; it is smooth, so it may be carried back to it."""
    over, maps = view.photograph, view.maps
    if isinstance(view.image, Picture):
        over = view.image.photo
        maps = view.image.carry_back(maps)
    if over is None:
        return [Panel(m, t) for m, t in zip(maps, titles, strict=True)]
    unseen = np.isnan(maps[0])
    rest = "pale: not seen by the model" if unseen.any() else f"{over.shape[1]} x {over.shape[0]}"
    over = _paled(over, unseen)
    panels = [Panel(over, f"the photograph\n{rest}")]
    if view.points is None:
        return panels + [Panel(m, t, over) for m, t in zip(maps, titles, strict=True)]
    for values, title, points in zip(maps, titles, view.points, strict=True):
        dots = _dots(view, points, over)
        many = "1 fixation" if len(points) == 1 else f"{len(points)} fixations"
        if len(titles) == 1:
            panels += [Panel(dots, f"{view.names[0]}\n{many}"), Panel(values, title, over)]
        else:
            panels.append(Panel(values, f"{title}, {many}", dots))
    return panels


def _dots(view: View, points: Array, photograph: Array) -> Array:
    """The photograph, or what the model sees of it, with a dot at each fixation."""
    seen = (0.0, 0.0, photograph.shape[1], photograph.shape[0])
    left, top, right, bottom = view.image.box if isinstance(view.image, Picture) else seen
    canvas = Image.fromarray(photograph)
    pen, size = ImageDraw.Draw(canvas), max(min(bottom - top, right - left) / DOT, 1.5)
    for y, x in (points + 0.5) / view.sizes:
        at = left + x * (right - left), top + y * (bottom - top)
        pen.circle(at, size, fill=INK, outline="black", width=max(round(size / 4), 1))
    return np.asarray(canvas)


def _paled(image: Array, where: Array) -> Array:
    """Take the colour off a part of a photograph, and most of its contrast."""
    out = image.copy()
    out[where] = (170 + 0.3 * image[where].mean(axis=-1, keepdims=True)).astype(np.uint8)
    return out
