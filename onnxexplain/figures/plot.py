"""What a person looks at: figures of an explanation, and the picture that blinks."""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onnxexplain.figures.panels import DPI, Panel, Scale, colours, png, sheet, signed_limit
from onnxexplain.figures.view import View
from onnxexplain.photograph.image import Picture

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
    "png",
    "sheet",
    "speaks",
    "spotted",
    "two_sigma_figure",
]

Array = np.ndarray[Any, Any]

MOST_SAMPLES = 8
"""How many samples of a batch are drawn below each other."""

BLINK = 2500
"""Milliseconds that each frame of the blinking picture stands, as in the authors' article."""

MARK = "PuOr"
"""Its upper end, a dark violet, is what the authors mark pixels with."""


def explanation_figure(
    e: "Explanation", image: Any = None, cmap: str | None = None, truth: int | None = None
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
    """
    count = e.score.shape[-1]
    images = image if isinstance(image, (list, tuple)) else [image] * count
    views = [View(e, i, images[i], truth) for i in range(min(count, MOST_SAMPLES))]
    if not views[0].has_positions:
        return _bars(views[0])
    rows = [_panels(view) for view in views]
    maps = [p.values for row in rows for p in row if not p.photograph]
    if views[0].cam:
        scale = Scale.positive(maps, cmap, "weight of the place")
    else:
        scale = Scale.signed(maps, cmap, _unit(e))
    columns = len(rows[0]) if len(rows[0]) <= 7 or len(rows) > 1 else 5
    return sheet([p for row in rows for p in row], scale, _heading(views, cmap), columns)


def _unit(e: "Explanation") -> str:
    return "share of the score, per pixel" if e.residual is not None else "effect, per pixel"


def _heading(views: list[View], cmap: str | None) -> str:
    """Say in plain words what is shown."""
    view = views[0]
    e = view.e
    said = f"{e.method}: {view.verdict()}" if len(views) == 1 else f"{e.method} of {len(views)}"
    if len(views) < e.score.shape[-1]:
        said += f" of {e.score.shape[-1]} samples."
    elif len(views) > 1:
        said += " samples."
    count = e.score.shape[0] if e.score.ndim == 2 else 1
    if len(view.shown) < count:
        said += f" The {len(view.shown)} strongest of {count} classes."
    if view.cam:
        return f"{said} Bright is where the class is seen in `{e.layer}`."
    if not view.signed:
        return f"{said} The stronger the colour, the more the score hangs on it, either way."
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
    if view.cam:
        return _cam_panels(view, titles)
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


def _cam_panels(view: View, titles: list[str]) -> list[Panel]:
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
    first = Panel(over, f"the photograph\n{rest}")
    return [first] + [Panel(m, t, over) for m, t in zip(maps, titles, strict=True)]


def _paled(image: Array, where: Array) -> Array:
    """Take the colour off a part of a photograph, and most of its contrast."""
    out = image.copy()
    out[where] = (170 + 0.3 * image[where].mean(axis=-1, keepdims=True)).astype(np.uint8)
    return out


def _bars(view: View) -> "Figure":
    """Draw the attributions of a table or a signal, one row per tensor and class."""
    rows = [
        (f"{name}: {title}" if len(view.e.attributions) > 1 else title, row)
        for name, values in view.flat()
        for title, row in zip(view.titles(), values, strict=True)
    ]
    count = view.e.score.shape[-1]
    more = f" The first of {count} samples." if count > 1 else ""
    heading = f"{view.e.method}: {view.verdict()}{more} Up speaks for the class, down against it."
    titles = [title for title, _ in rows]
    return features_figure([row for _, row in rows], titles, heading, "place in the input")


# ----- Marks -----


def marked(photograph: Array, where: Array) -> Array:
    """Return a photograph multiplied by a binary map in the authors' colours."""
    from matplotlib import colormaps

    ink = np.asarray(colormaps[MARK](1.0)[:3])
    out = photograph.astype(np.float32)
    out[where] *= ink
    return np.asarray(out.round().astype(np.uint8))


def spotted(photograph: Array, where: Array) -> Array:
    """Return a photograph that is dark but where the map is."""
    out = photograph.copy()
    out[~where] = (0.3 * photograph[~where]).astype(np.uint8)
    return out


def two_sigma_figure(view: View, deviations: float = 2.0) -> "Figure":
    """Return the leading class's binary map, and the photograph with it."""
    k = view.leading
    where = view.two_sigma(deviations)[k]
    paper = np.full((*where.shape, 3), 255, np.uint8)
    title = f"above {deviations:g} deviations\n{int(where.sum()):,} of {where.size:,} pixels"
    panels = [Panel(marked(paper, where), title)]
    if view.photograph is not None:
        panels += [
            Panel(view.photograph, "what the model sees"),
            Panel(marked(view.photograph, where), "the one on the other"),
        ]
    heading = f"Where the map of {view.names[k]} is above {deviations:g} deviations. "
    return sheet(panels, None, heading + view.verdict())


def blinking(photograph: Array, where: Array) -> bytes:
    """Return a GIF that shows the photograph with and without the marks, without end.

    Both frames share one palette, so that nothing but the marks changes.
    """
    product = marked(photograph, where)
    both = Image.fromarray(np.concatenate([photograph, product]))
    palette = both.quantize(256, Image.Quantize.MEDIANCUT)
    frames = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in (photograph, product)
    ]
    buffer = BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=BLINK, loop=0, disposal=1
    )
    return buffer.getvalue()


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
