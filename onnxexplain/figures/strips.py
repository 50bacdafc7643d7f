"""Strips of maps for the page: one panel per class, side by side, on one scale."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from onnxexplain.figures.panels import Scale
from onnxexplain.figures.pictures import grid, jpeg, reduced, shown
from onnxexplain.figures.view import Carried, View
from onnxexplain.layers import Statistics

Array = np.ndarray[Any, Any]

ROOM = 3_600_000
"""Bytes that all maps of the page may take, before they are written as text."""
PER_PIXEL = 0.75
"""Bytes that a pixel of a map takes, measured on maps of layers near the input."""
SIDES = (64, 224)
"""How many pixels a map of a layer is wide, at the least and at the most."""
LARGE = 320
"""How many pixels the maps of the input are wide."""


def walks(view: View) -> bool:
    """Whether there are shares to follow through the layers, and a picture to draw them over."""
    return view.e.shares_out and view.has_positions and view.over_input


def number(value: float) -> str:
    """Write a number with five digits and a true minus sign."""
    return f"{value:.5g}".replace("-", "\u2212")


def grids(view: View, cmap: str | None) -> Iterator[dict[str, Any]]:
    """The feature maps of the last two layers one by one, for the leading class."""
    if not walks(view) or view.features() is None:
        return
    for name in reversed(view.blocks()[-2:]):
        maps = view.pick(view.e.layers[name].score)[view.leading]
        scale = Scale.signed(list(maps), cmap)
        yield {"name": name, "maps": grid(maps, scale), "scale": _legend(scale)} | {
            "count": len(maps),
            "size": f"{maps.shape[2]} x {maps.shape[1]}",
        }


# ----- Layers -----


def drawn(view: View) -> list[str]:
    """The layers drawn: all of them, or as many, evenly spaced, as the page has room for."""
    blocks = view.blocks()
    most = int(ROOM / (PER_PIXEL * SIDES[0] ** 2 * 2 * len(view.names)))
    if len(blocks) <= most:
        return blocks
    chosen = np.unique(np.linspace(0, len(blocks) - 1, max(most, 2)).round().astype(int))
    return [blocks[i] for i in chosen]


def layers(view: View, cmap: str | None, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The layers from the last to the first: score and constants, over the input."""
    if not walks(view):
        return
    blocks = drawn(view)
    fit = (ROOM / (PER_PIXEL * 2 * max(len(blocks), 1) * len(view.names))) ** 0.5
    side = int(np.clip(fit, *SIDES))
    tell("report: the layers")
    for name in reversed(blocks):
        held = view.carried(name)
        yield {
            "name": name,
            "shape": " x ".join(str(n) for n in view.e.shape_of(name)[1:]),
            "field": _field(view.e.layers[name].receptive_field),
            "score": _row(view, held.score, held.score_sum, f"score of {name}", cmap, side),
            "constant": _row(
                view, held.constant, held.constant_sum, f"constants of {name}", cmap, side
            ),
            "numbers": _numbers(view, held),
        }


def _field(field: Any) -> str:
    return " x ".join(f"{axis.size:g}" for axis in field) if field else ""


def _row(
    view: View, maps: Array, sums: Array, what: str, cmap: str | None, side: int
) -> dict[str, Any]:
    """One panel per class, on one scale."""
    small = [reduced(m, side) for m in maps]
    scale = Scale.signed(small, cmap) if view.signed else Scale.strength(small, cmap)
    panels = [
        {
            "image": shown(picture, scale),
            "name": name,
            "sum": float(total),
            "alt": f"Map of the {what} for {name}, which sums to {number(float(total))}.",
        }
        for picture, total, name in zip(small, sums, view.names, strict=True)
    ]
    return {"panels": panels, "scale": _legend(scale)}


def _legend(scale: Scale) -> dict[str, Any]:
    stops = scale.rgb(np.linspace(scale.low, scale.high, 17))
    colours = ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops)
    return {"low": scale.low, "high": scale.high, "gradient": colours}


def _numbers(view: View, held: Carried) -> list[dict[str, Any]]:
    """The authors' statistics: of the shares before channels are summed, of carried constants."""
    score = [view.pick(getattr(held.score_statistics, f)) for f in _FIELDS]
    constant = [getattr(held.constant_statistics, f) for f in _FIELDS]
    return [
        {
            "name": name,
            "score": [float(v[k]) for v in (held.score_sum, *score)],
            "constant": [float(v[k]) for v in (held.constant_sum, *constant)],
        }
        for k, name in enumerate(view.names)
    ]


_FIELDS = ("maximum", "minimum", "mean", "deviation")


# ----- At the input -----


def finals(view: View, cmap: str | None, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The maps at the input: shares, all constants, and both together; or the one there is."""
    if not view.has_positions:
        return
    tell("report: the pixels")
    if view.smooth:
        yield _overlays(view, cmap)
        return
    rows = [("The map", "every pixel's value", view.maps)]
    if view.whole:
        shares, constants = view.parts()
        rows = [
            ("What the pixels hold", "shares of the input", shares),
            (
                "What the constants of all layers hold",
                "constants, carried to the pixels",
                constants,
            ),
            ("Both together: the map of the score", "shares and constants", view.maps),
        ]
    for title, what, maps in rows:
        sums = maps.sum(axis=(1, 2), dtype=np.float64)
        carried = Statistics.of(maps, 1)
        columns = [sums, *(getattr(carried, f) for f in _FIELDS)]
        numbers = [
            {"name": name, "score": [float(v[k]) for v in columns], "constant": []}
            for k, name in enumerate(view.names)
        ]
        row = _row(view, maps, sums, what, cmap, LARGE)
        yield {"title": title, "what": what, "numbers": numbers, **row}


def _overlays(view: View, cmap: str | None) -> dict[str, Any]:
    scale = Scale.positive(list(view.maps), cmap)
    under = view.photograph
    panels = []
    for values, name in zip(view.maps, view.names, strict=True):
        colour = scale.rgb(values)
        if under is not None:
            colour = (0.5 * colour + 0.5 * under).round().astype(np.uint8)
        alt = f"Where {name} is seen, bright, over the photograph."
        panels.append({"image": jpeg(colour), "name": name, "sum": None, "alt": alt})
    what = f"the map of {view.e.layer}" if view.cam else "the density of the fixations"
    return {
        "title": "Where the class is seen",
        "what": f"{what}, over the photograph",
        "numbers": [],
        "panels": panels,
        "scale": _legend(scale),
    }
