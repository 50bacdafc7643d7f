"""Boxes on the photograph: a colour for each class, its name and its probability."""

from typing import TYPE_CHECKING

import numpy as np

from onnxexplain.figures.panels import Outline, Panel
from onnxexplain.figures.view import View
from onnxexplain.photograph.image import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxexplain.boxes import Box

COLOURS = (
    "#e6194b #3cb44b #ffe119 #4363d8 #f58231 #911eb4 #46f0f0 #f032e6 #bcf60c #fabebe #008080 "
    "#9a6324"
).split()
"""One per class drawn; twelve are told apart at a glance."""

SPEAKS = 0.15
"""A box as wide as this part of the picture has words; of smaller ones each class's strongest."""


def boxes_panel(view: View, boxes: "Sequence[Box]", under: Panel, threshold: float) -> Panel:
    """Return the boxes of this sample and of the classes drawn, over a photograph or on paper.

    ``under`` is the panel beside it: what the model sees, or the photograph whole.
    """
    values = under.values
    if not under.photograph:
        values = np.full((*under.values.shape[:2], 3), 255, np.uint8)
    own = [box for box in boxes if box["sample"] == view.i and box["class"] in view.classes]
    outlines, named = [], set()
    for box in own:
        place, c = on_photograph(view, box, values.shape[:2]), box["class"]
        speaks = c not in named or place[2] - place[0] >= SPEAKS * values.shape[1]
        named.add(c)
        left = view.name(c) if speaks and c is not None else ""
        right = f"{box['probability']:.0%}" if speaks and box["probability"] is not None else ""
        colour = COLOURS[view.classes.index(c) % len(COLOURS)]
        outlines.append((box["probability"] or 0.0, Outline(place, colour, left, right)))
    outlines.sort(key=lambda pair: pair[0])  # where words meet, those of the likelier are on top
    many = "1 box" if len(own) == 1 else f"{len(own)} boxes"
    title = f"{many}\nfrom {threshold:g} of each map's maximum"
    return Panel(values, title, outlines=tuple(o for _, o in outlines))


def on_photograph(
    view: View, box: "Box", size: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """Return a box (x0, y0, x1, y1) in the pixels of a picture [height, width] beside the map.

    It is the photograph whole where there is one of that size, else what the model sees.
    """
    height, width = view.sizes
    left, top, right, bottom = 0.0, 0.0, float(size[1]), float(size[0])
    if isinstance(view.image, Picture) and tuple(size) == view.image.photo.shape[:2]:
        left, top, right, bottom = view.image.box
    across, down = (right - left) / width, (bottom - top) / height
    x0, x1 = left + box["x0"] * across, left + box["x1"] * across
    return x0, top + box["y0"] * down, x1, top + box["y1"] * down
