"""Boxes on pictures: a colour for each class, its name and its probability; and what is known."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.errors import MethodError
from onnxexplain.figures.panels import Outline, Panel
from onnxexplain.figures.view import Place, View
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

KNOWN = "#39ff14"
"""The colour of what is known to be there: a green that no map has."""


def boxes_panel(view: View, boxes: "Sequence[Box]", under: Panel, threshold: float) -> Panel:
    """Return the boxes of this sample and of the classes drawn, over a photograph or on paper.

    ``under`` is the panel beside it: what the model sees, or the photograph whole.
    """
    values = under.values
    if not under.photograph:
        values = np.full((*under.values.shape[:2], 3), 255, np.uint8)
    drawn = {None, *view.classes}  # a box of all classes together has none
    own = [box for box in boxes if box["sample"] == view.i and box["class"] in drawn]
    outlines, named = [], set()
    for box in own:
        c = box["class"]
        place = on_photograph(view, of(box), values.shape[:2])
        speaks = c not in named or place[2] - place[0] >= SPEAKS * values.shape[1]
        named.add(c)
        left = view.name(c) if speaks and c is not None else ""
        right = f"{box['probability']:.0%}" if speaks and box["probability"] is not None else ""
        colour = COLOURS[0 if c is None else view.classes.index(c) % len(COLOURS)]
        outlines.append((box["probability"] or 0.0, Outline(place, colour, left, right)))
    outlines.sort(key=lambda pair: pair[0])  # where words meet, those of the likelier are on top
    many = "1 box" if len(own) == 1 else f"{len(own)} boxes"
    title = f"{many}\nfrom {threshold:g} of each map's maximum"
    return Panel(values, title, outlines=tuple(o for _, o in outlines))


def places(given: Any) -> tuple[Place, ...]:
    """Return boxes given as four numbers, or as rows of four.

    Raises
    ------
    MethodError
        if they are none.
    """
    try:
        rows = np.asarray(given, float).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise MethodError(
            f"known is {given!r}; it must be a box (x0, y0, x1, y1), or a list of them"
        ) from error
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in rows.tolist())


def known(view: View, panels: "Sequence[Panel]") -> list[Panel]:
    """Return panels with what is known to be there outlined on each."""
    made = []
    for panel in panels:
        own = tuple(
            Outline(on_photograph(view, place, panel.values.shape[:2]), KNOWN)
            for place in view.known
        )
        made.append(replace(panel, outlines=own + panel.outlines))
    return made


def of(box: "Box") -> Place:
    """Return where a box lies on its map."""
    return box["x0"], box["y0"], box["x1"], box["y1"]


def on_photograph(view: View, place: Place, size: tuple[int, ...]) -> Place:
    """Return a box on a map in the pixels of a picture [height, width] beside it.

    That is the photograph whole where there is one of that size, else what the model sees.
    """
    height, width = view.sizes
    left, top, right, bottom = 0.0, 0.0, float(size[1]), float(size[0])
    if isinstance(view.image, Picture) and tuple(size) == view.image.photo.shape[:2]:
        left, top, right, bottom = view.image.box
    across, down = (right - left) / width, (bottom - top) / height
    x0, y0, x1, y1 = place
    return left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down
