"""Panels side by side, every map pixel for pixel, on one scale with one colour bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.errors import MethodError, nearest
from onnxexplain.figures.wrapping import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

SIGNED = "seismic"
PERCEPTUAL = "inferno"
DPI = 100
LEAST, MOST = 320, 1280
"""How many pixels wide or high a panel is drawn, at the least and at the most."""
LETTERS = 14
"""A panel is so many times as wide as its letters are high, unless those were too small to read."""


@dataclass(frozen=True)
class Outline:
    """A box (x0, y0, x1, y1) in a panel's pixels, with words at its top left and top right."""

    box: tuple[float, float, float, float]
    colour: str
    left: str = ""
    right: str = ""


@dataclass(frozen=True)
class Panel:
    """A photograph (uint8 [H,W,3]) or a map ([H,W]), and what stands above it.

    ``over`` is a photograph that the map lies on, half transparent.
    """

    values: Array
    title: str = ""
    over: Array | None = None
    outlines: tuple[Outline, ...] = ()

    @property
    def photograph(self) -> bool:
        """Whether it has colours of its own."""
        return self.values.ndim == 3


@dataclass(frozen=True)
class Scale:
    """Which value has which colour."""

    low: float
    high: float
    cmap: str
    label: str = ""

    @classmethod
    def signed(cls, maps: Sequence[Array], cmap: str | None = None, label: str = "") -> "Scale":
        """Return a scale symmetric about zero.

        It ends where all but one in a thousand of the values that are not zero have been told
        apart, because a map's few extremes would leave the rest of it white.
        """
        limit = signed_limit(maps)
        return cls(-limit, limit, colours(cmap or SIGNED), label)

    @classmethod
    def strength(cls, maps: Sequence[Array], cmap: str | None = None, label: str = "") -> "Scale":
        """Return a scale from zero, for maps without a sign; it ends like a signed one."""
        return cls.between(0.0, signed_limit(maps), cmap, label)

    @classmethod
    def between(cls, low: float, high: float, cmap: str | None = None, label: str = "") -> "Scale":
        """Return a scale with given ends, which differ."""
        return cls(low, high, colours(cmap or PERCEPTUAL), label)

    @classmethod
    def positive(cls, maps: Sequence[Array], cmap: str | None = None, label: str = "") -> "Scale":
        """Return a scale from the least value (or zero) to the greatest, for a CAM."""
        low = min(0.0, *(float(np.nanmin(m)) for m in maps)) if maps else 0.0
        high = max((float(np.nanmax(m)) for m in maps), default=1.0)
        return cls.between(low, high if high > low else low + 1.0, cmap, label)

    def rgb(self, values: Array) -> Array:
        """Return a map in its colours, uint8 [...,3]."""
        from matplotlib import colormaps

        place = (values - self.low) / (self.high - self.low)
        return np.asarray(colormaps[self.cmap](np.clip(place, 0, 1), bytes=True)[..., :3])


def signed_limit(maps: Sequence[Array]) -> float:
    """Return the limit of a symmetric scale: the 99.9th percentile of what is not zero."""
    sizes = np.concatenate([np.abs(m[np.isfinite(m)]).ravel() for m in maps] or [np.zeros(1)])
    sizes = sizes[sizes > 0]
    if not sizes.size:
        return 1e-5
    return float(np.percentile(sizes, 99.9)) if sizes.size > 5000 else float(sizes.max())


def colours(name: str) -> str:
    """Return the name of a colour map, if matplotlib has it.

    Raises
    ------
    MethodError
        if it has not, with the nearest names.
    """
    from matplotlib import colormaps

    if name not in colormaps:
        raise MethodError(f"no colour map `{name}`{nearest(name, sorted(colormaps))}")
    return name


# ----- The sheet -----


@dataclass(frozen=True)
class _Plan:
    """Where everything goes, in pixels from the top left."""

    panel: tuple[int, int]
    columns: int
    rows: int
    font: float
    gap: int
    title: int
    top: int
    bar: int
    width: int
    height: int

    def place(self, i: int) -> tuple[float, float, float, float]:
        """Return the rectangle of panel ``i`` as matplotlib counts: from the bottom left, in 1."""
        row, column = divmod(i, self.columns)
        x = self.gap + column * (self.panel[0] + self.gap)
        y = self.top + row * (self.title + self.panel[1] + self.gap) + self.title
        return self.rectangle(x, y, *self.panel)

    def rectangle(
        self, x: float, y: float, w: float, h: float
    ) -> tuple[float, float, float, float]:
        """Return a rectangle given in pixels from the top left as shares of the figure."""
        return x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height


def sheet(
    panels: Sequence[Panel],
    scale: Scale | Sequence[Scale] | None,
    heading: str = "",
    columns: int | None = None,
    least: int = LEAST,
) -> "Figure":
    """Return a figure of panels, all of one size, with a heading and a colour bar.

    ``scale`` is the one of all panels, or there is one for each row.
    """
    from matplotlib.figure import Figure

    scales = [scale] if isinstance(scale, Scale) else list(scale or [])
    bar = bool(scales) and not all(p.photograph for p in panels)
    columns = columns or min(len(panels), 6)
    plan = _planned(panels, heading, columns, bar, least)
    figure = Figure(figsize=(plan.width / DPI, plan.height / DPI), dpi=DPI, facecolor="white")
    point = plan.font * 72 / DPI
    lines = wrapped(heading, plan.width - 2 * plan.gap, plan.font * 1.15)
    figure.text(
        plan.gap / plan.width,
        1 - 0.6 * plan.gap / plan.height,
        lines,
        va="top",
        size=point * 1.15,
        linespacing=1.3,
    )
    for i, panel in enumerate(panels):
        axes = figure.add_axes(plan.place(i))
        row = min(i // columns, len(scales) - 1)
        _draw(axes, panel, scales[row] if scales else None)
        for outline in panel.outlines:
            _draw_outline(axes, outline, min(0.75 * point, plan.panel[0] / 30 * 72 / DPI))
        axes.set_title(
            wrapped(panel.title, plan.panel[0], plan.font), size=point, pad=point * 0.5, loc="left"
        )
    for row, one in enumerate(scales if bar else []):
        _colour_bar(figure, plan, one, point, row if len(scales) > 1 else None)
    return figure


def _planned(panels: Sequence[Panel], heading: str, columns: int, bar: bool, least: int) -> _Plan:
    panel = shown(panels[0].values.shape[:2], least)
    rows = -(-len(panels) // columns)
    bare = columns * panel[0]
    font = float(np.clip(min(bare / 90, panel[0] / LETTERS), 12, 36))
    gap = round(1.6 * font)
    most = max(len(wrapped(p.title, panel[0], font).splitlines()) for p in panels)
    title = round(most * 1.25 * font + font) if most else 0
    room = round(9 * font) if bar else 0
    width = bare + (columns + 1) * gap + room
    lines = len(wrapped(heading, width - 2 * gap, font * 1.15).splitlines())
    top = gap + round(lines * font * 1.15 * 1.35)
    height = top + rows * (title + panel[1] + gap)
    return _Plan(panel, columns, rows, font, gap, title, top, room, width, height)


def shown(size: tuple[int, ...], least: int) -> tuple[int, int]:
    """Width and height of a panel: whole multiples of a small map, a part of a very large one."""
    height, width = size
    if max(size) > MOST:
        part = MOST / max(size)
        return max(round(width * part), 1), max(round(height * part), 1)
    times = -(-least // max(size))
    return width * times, height * times


def _draw(axes: Any, panel: Panel, scale: Scale | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#999999", linewidth=0.6)
    if panel.photograph or scale is None:
        axes.imshow(panel.values, aspect="auto", interpolation="nearest")
        return
    if panel.over is not None:
        axes.imshow(panel.over, aspect="auto", interpolation="nearest")
    axes.imshow(
        panel.values,
        cmap=scale.cmap,
        vmin=scale.low,
        vmax=scale.high,
        aspect="auto",
        interpolation="nearest",
        alpha=None if panel.over is None else 0.5,
    )


def _draw_outline(axes: Any, outline: Outline, size: float) -> None:
    """Draw a box, its words on its own colour; they are inside where it is at the very top."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    x0, y0, x1, y1 = outline.box
    rim = [withStroke(linewidth=size * 0.35, foreground="black")]
    place = (x0 - 0.5, y0 - 0.5)
    axes.add_patch(
        Rectangle(
            place,
            x1 - x0,
            y1 - y0,
            fill=False,
            edgecolor=outline.colour,
            linewidth=size * 0.2,
            path_effects=rim,
        )
    )
    bright = float(np.dot(to_rgb(outline.colour), (0.299, 0.587, 0.114)))
    words = {
        "size": size,
        "color": "black" if bright > 0.55 else "white",
        "clip_on": True,
        "bbox": {"facecolor": outline.colour, "edgecolor": "none", "pad": size * 0.16},
    }
    high = axes.get_ylim()[1] + 0.06 * abs(np.subtract(*axes.get_ylim()))
    if outline.left:
        axes.text(*place, outline.left, va="top" if y0 < high else "bottom", ha="left", **words)
    if outline.right:
        below = y0 < high and outline.left
        axes.text(
            x1 - 0.5,
            y1 - 0.5 if below else y0 - 0.5,
            outline.right,
            va="bottom" if below else "top",
            ha="right",
            **words,
        )


def _colour_bar(figure: "Figure", plan: _Plan, scale: Scale, point: float, row: int | None) -> None:
    """Draw the colour bar of one row, or of all."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import ScalarFormatter

    x, y = plan.width - plan.bar, plan.top + plan.title
    y += (row or 0) * (plan.title + plan.panel[1] + plan.gap)
    alone = row is not None or plan.rows == 1
    height = plan.panel[1] if alone else plan.height - y - plan.gap
    axes = figure.add_axes(plan.rectangle(x, y, round(plan.font * 0.9), height))
    colours_of = ScalarMappable(Normalize(scale.low, scale.high), scale.cmap)
    written = ScalarFormatter()
    written.set_powerlimits((-3, 4))
    bar = figure.colorbar(colours_of, cax=axes, format=written)
    bar.ax.tick_params(labelsize=point * 0.85)
    bar.ax.yaxis.set_offset_position("right")
    bar.ax.yaxis.get_offset_text().set_fontsize(point * 0.85)
    bar.set_label(scale.label, size=point * 0.9)


def png(figure: "Figure") -> bytes:
    """Return a figure as the content of a PNG file, nothing cut off."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 4})  # twice as fast as 6
    return buffer.getvalue()
