"""What a person looks at: figures of an explanation, and the picture that blinks."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.errors import MethodError
from onnxexplain.figures.contact import contact_figure
from onnxexplain.figures.marks import blinking, marked, spotted, two_sigma_figure
from onnxexplain.figures.outlines import boxes_panel, known, places
from onnxexplain.figures.overlays import smooth_panels
from onnxexplain.figures.panels import (
    DPI,
    LEAST,
    Panel,
    Scale,
    colours,
    png,
    sheet,
    shown,
    signed_limit,
)
from onnxexplain.figures.sequences import sequence_figure
from onnxexplain.figures.signs import signs_figure
from onnxexplain.figures.view import Place, View
from onnxexplain.figures.volumes import volume_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxexplain.explanation import Explanation

__all__ = [
    "Panel",
    "Scale",
    "blinking",
    "explanation_figure",
    "features_figure",
    "grid_figure",
    "layer_figure",
    "marked",
    "placeless_figure",
    "png",
    "sheet",
    "signs_figure",
    "speaks",
    "spotted",
    "two_sigma_figure",
]

Array = np.ndarray[Any, Any]

MOST_SAMPLES = 12
"""How many samples of a batch are drawn."""

ABREAST, WIDE = 10, 3600
"""How many panels of several samples stand in a row at the most, and how many pixels they take."""


def figure(
    e: "Explanation", kind: str, *, image: Any = None, known: Any = (), **options: Any
) -> "Figure":
    """Return the figure of an explanation that is called ``kind``: ``maps`` or ``signs``."""
    if kind == "signs":
        first = image[0] if isinstance(image, (list, tuple)) else image
        return signs_figure(View(e, 0, first, known=places(known)))
    if kind != "maps":
        raise MethodError(f"no figure `{kind}`; one of maps, signs")
    return explanation_figure(e, image, known_at=places(known), **options)


def explanation_figure(
    e: "Explanation",
    image: Any = None,
    cmap: str | None = None,
    truth: int | None = None,
    boxes: float | None = None,
    min_size: int = 1,
    known_at: tuple[Place, ...] = (),
) -> "Figure":
    """Return the figure of an explanation.

    Parameters
    ----------
    image
        what stands beside the maps, for a batch one per sample; by default the input itself.
    cmap
        a matplotlib colour map instead of ``seismic`` (maps with a sign) or ``inferno`` (CAMs);
        ``PuOr`` and ``cividis`` are safe for colour-blind readers.
    truth
        the true class, named beside the predicted one.
    boxes
        a part of each map's maximum: boxes around what reaches it are drawn in a panel of their
        own; those narrower or lower than ``min_size`` pixels are left out.
    known_at
        boxes in pixels of the input, where objects are known to be: outlined on every panel.
    """
    found = None if boxes is None else e.boxes(boxes, min_size=min_size)
    count = e.score.shape[-1]
    images = image if isinstance(image, (list, tuple)) else [image] * count
    drawn = range(min(count, MOST_SAMPLES))
    views = [View(e, i, images[i], truth, known_at) for i in drawn]
    if not views[0].has_positions:
        return placeless_figure(views[0], cmap)
    if e.all_layers and boxes is not None:
        raise MethodError("boxes are drawn around one map; leave boxes= or layer=all out")
    if e.all_layers:
        return contact_figure(views[0], cmap)
    rows = [_panels(view) for view in views]
    if boxes is not None and found is not None:
        for view, row in zip(views, rows, strict=True):
            row.append(boxes_panel(view, found, row[0], boxes))
    rows = [known(view, row) for view, row in zip(views, rows, strict=True)]
    if len(rows) > 1:
        rows = [_over_the_strongest(row, views[0].smooth) for row in rows]
    scale = _scale(views, [p.values for row in rows for p in row if not p.photograph], cmap)
    panels, least = [p for row in rows for p in row], LEAST if len(rows) == 1 else LEAST // 2
    return sheet(panels, scale, _heading(views, cmap), _columns(rows, least), least)


def _over_the_strongest(row: list[Panel], smooth: bool) -> list[Panel]:
    """One sample's maps on a scale of its own, for samples differ in what they score."""
    maps = [panel.values for panel in row if not panel.photograph]
    greatest = max(float(np.nanmax(np.abs(m))) for m in maps)
    limit = (greatest or 1.0) if smooth else signed_limit(maps)
    return [p if p.photograph else replace(p, values=p.values / limit) for p in row]


def _scale(views: list[View], maps: list[Array], cmap: str | None) -> Scale:
    view = views[0]
    if view.smooth:
        unit = "weight of the place" if view.cam else "fixations per pixel"
    else:
        unit = "effect, per pixel" if view.e.residual is None else "share of the score, per pixel"
    if len(views) > 1:
        unit = "of each sample's strongest"
    if view.smooth:
        return Scale.positive(maps, cmap, unit)
    signed = any(view.signed for view in views)
    return Scale.signed(maps, cmap, unit) if signed else Scale.strength(maps, cmap, unit)


def _columns(rows: list[list[Panel]], least: int) -> int:
    """How many panels stand in a row: those of one sample, or of several that are small."""
    own, count = len(rows[0]), len(rows)
    if count == 1:
        return own if own <= 7 else 5
    width = own * shown(rows[0][0].values.shape[:2], least)[0]
    abreast = max(1, min(ABREAST // own, WIDE // width))
    return own * math.ceil(count / math.ceil(count / abreast))


def _heading(views: list[View], cmap: str | None) -> str:
    """Say in plain words what is shown."""
    view = views[0]
    e = view.e
    name = f"{e.method} by {len(e.members)} models" if e.members else e.method
    said = f"{name}: {view.verdict()}" if len(views) == 1 else f"{name} of {len(views)}"
    if len(views) < e.score.shape[-1]:
        said += f" of {e.score.shape[-1]} samples."
    elif len(views) > 1:
        said += " samples."
    count = e.score.shape[0] if e.score.ndim == 2 else 1
    if len(view.shown) < count and not e.options.get("combined"):
        said += f" The {len(view.shown)} strongest of {count} classes."
    if view.cam and e.options.get("combined"):
        return f"{said} Bright is what any class rests on in `{e.layer}`."
    if view.cam:
        return f"{said} Bright is where the class is seen in `{e.layer}`."
    if view.points is not None:
        return f"{said} Dots: what it was read off. Bright: where they are dense."
    if not any(view.signed for view in views):
        return f"{said} The higher on the colour bar, the more the score hangs on it, either way."
    said += f" {speaks(cmap)}."
    alone = len(e.attributions) == 1  # with several inputs each map holds a part
    return f"{said} Each total map adds up to its score." if view.whole and alone else said


def speaks(cmap: str | None) -> str:
    """Say which colour means what."""
    if cmap in (None, "seismic", "bwr", "coolwarm", "RdBu_r"):
        return "Red speaks for the class, blue against it"
    return "The upper end of the colour bar speaks for the class, the lower end against it"


def _panels(view: View) -> list[Panel]:
    photograph = view.photograph
    first = [] if photograph is None else [Panel(photograph, _seen(view))]
    titles = view.titles()
    if view.smooth:
        return smooth_panels(view, titles)
    if not view.whole or len(titles) > 1:
        return first + [Panel(m, t) for m, t in zip(view.maps, titles, strict=True)]
    shares, constants = view.parts()
    panels = [
        *first,
        Panel(shares[0], f"shares of the pixels\nsum {_sum(shares[0])}"),
        _strengthened(constants[0], view.maps[0]),
        Panel(view.maps[0], f"total: {titles[0]}"),
    ]
    if photograph is not None:
        over = marked(photograph, view.two_sigma()[0])
        panels.append(Panel(over, "total above two deviations\nmarked on the photograph"))
    return panels


def _strengthened(constants: Array, total: Array) -> Panel:
    """The constants; where they are too faint for the common scale, as many times as strong."""
    ratio = signed_limit([total]) / signed_limit([constants])
    times = 10 ** int(np.log10(ratio)) if ratio > 10 and constants.any() else 1
    more = "" if times == 1 else f", drawn x {times:,}"
    return Panel(constants * times, f"constants of all layers\nsum {_sum(constants)}{more}")


def _seen(view: View) -> str:
    return f"what the model sees\n{view.sizes[1]} x {view.sizes[0]} pixels"


def _sum(values: Array) -> str:
    return f"{float(values.sum(dtype=np.float64)):.5g}"


def placeless_figure(view: View, cmap: str | None = None) -> "Figure":
    """Return the figure of one sample whose maps are no pictures: a volume, a sequence, a table."""
    draw = volume_figure if len(view.sizes) == 3 else sequence_figure
    return draw(view, cmap)


# ----- Layers -----


def layer_figure(view: View, tensor: str, cmap: str | None = None) -> "Figure":
    """Return the rows of one layer over the input: its score for every class, then its constants.

    Each row has a scale of its own, for constants are often smaller by far.
    """
    held = view.carried(tensor)
    rows = [("score", held.score, held.score_sum), ("constants", held.constant, held.constant_sum)]
    panels, scales = [], []
    for what, maps, sums in rows:
        titles = [f"{name}\n{what}: sum {s:.5g}" for name, s in zip(view.names, sums, strict=True)]
        panels += [Panel(m, title) for m, title in zip(maps, titles, strict=True)]
        scales.append(Scale.signed(list(maps), cmap, what))
    heading = f"{tensor}: the score that arrives there, and what the layer's constants add"
    return sheet(panels, scales, heading, len(view.names))


def grid_figure(maps: Array, title: str, cmap: str | None = None, columns: int = 8) -> "Figure":
    """Return the individual feature maps [F,h,w] of a layer in eight columns, on one scale."""
    panels = [Panel(m, f"{k}") for k, m in enumerate(maps)]
    return sheet(panels, Scale.signed(list(maps), cmap, "score"), title, columns, least=90)


def features_figure(
    scores: Sequence[Array] | Array, names: Sequence[str], title: str = "", label: str = "feature"
) -> "Figure":
    """Return one bar plot of feature scores [F] per class, all on one scale."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows, width = len(scores), 11.5
    lines = "\n".join(textwrap.wrap(title, 120))
    head = 0.3 + 0.22 * len(lines.splitlines())
    height = 0.5 + 1.5 * rows + head
    engine = ConstrainedLayoutEngine(rect=(0.005, 0, 0.99, 1 - head / height))
    figure = Figure(figsize=(width, height), dpi=DPI, layout=engine)
    figure.text(0.1 / width, 1 - 0.12 / height, lines, size=12, va="top")
    limit = max(1e-12, *(float(np.abs(s).max()) for s in scores if len(s))) * 1.1
    same = len({len(s) for s in scores}) == 1
    axes = figure.subplots(rows, 1, squeeze=False, sharex=same)[:, 0]
    for ax, values, name in zip(axes, scores, names, strict=True):
        place = np.arange(len(values))
        if len(values) <= 256:
            hues = np.where(values >= 0, "#b2182b", "#2166ac")
            ax.bar(place, values, width=0.8, color=hues)
        else:
            ax.plot(place, values, color="#333333", linewidth=0.7)
        ax.axhline(0, color="#666666", linewidth=0.6)
        ax.set_ylim(-limit, limit)
        ax.set_xlim(-1, len(values))
        ax.set_title(name.replace("\n", ", "), size=10, loc="left")
        ax.tick_params(labelsize=8)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    axes[-1].set_xlabel(label, size=9)
    return figure


def checked(cmap: str | None) -> str | None:
    """Return the colour map's name if there is one of that name."""
    return None if cmap is None else colours(cmap)
