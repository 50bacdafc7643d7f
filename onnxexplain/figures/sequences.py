"""Figures of what is no picture: a table as bars, a sequence as a curve and a strip over its steps.

A sequence is a tensor [steps, channels] or [channels, steps] of one sample: time series, signals,
embeddings of tokens.
"""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.figures.panels import DPI, Scale
from onnxexplain.figures.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

FOR, AGAINST = "#b2182b", "#2166ac"
BARS = 256
"""More values than these are drawn as a curve."""
LINES = 8
"""How many channels are drawn as lines of their own."""
STRIPES = 64
"""A strip of more channels could not be read: their sum is drawn alone."""
WIDTH = 11.5


@dataclass(frozen=True)
class _Row:
    """One plot: how high it is in inches, and what draws it."""

    height: float
    draw: Callable[[Any], Any]
    strip: bool = False


def sequence_figure(view: View, cmap: str | None = None) -> "Figure":
    """Return the figure of one sample whose maps are no pictures.

    A sequence that is an input is drawn first, as the model sees it. Then, for every class, what
    each step adds (its channels summed) and, where there are a few channels, a strip of them all.
    A table has one bar per feature.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    parts = [_Part(view, name) for name in _names(view)]
    scale = _scale(view, [v for p in parts if p.striped for v in p.values], cmap)
    rows = [row for part in parts for row in part.rows(scale)]
    lines = "\n".join(textwrap.wrap(_heading(view, any(p.channels > 1 for p in parts)), 115))
    head = 0.35 + 0.22 * len(lines.splitlines())
    height = 0.4 + sum(row.height for row in rows) + head
    engine = ConstrainedLayoutEngine(rect=(0.005, 0, 0.985, 1 - head / height), hspace=0.03)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=engine)
    figure.text(0.1 / WIDTH, 1 - 0.12 / height, lines, size=12, va="top")
    grid = figure.add_gridspec(len(rows), 1, height_ratios=[row.height for row in rows])
    axes = [figure.add_subplot(grid[i]) for i in range(len(rows))]
    for ax, row in zip(axes, rows, strict=True):
        row.draw(ax)
        ax.tick_params(labelsize=8)
        for side in () if row.strip else ("top", "right"):
            ax.spines[side].set_visible(False)
    strips = [ax for ax, row in zip(axes, rows, strict=True) if row.strip]
    if strips:
        bar = figure.colorbar(strips[0].images[0], ax=axes, fraction=0.025, pad=0.01)
        bar.set_label(scale.label, size=9)
        bar.ax.tick_params(labelsize=8)
    return figure


def _names(view: View) -> list[str]:
    """The tensors drawn; a CAM and fixations have one map over the input."""
    return [view.first] if view.cam or view.e.points is not None else list(view.e.attributions)


def _scale(view: View, strips: list[Array], cmap: str | None) -> Scale:
    unit = "effect" if view.e.residual is None else "share of the score"
    signed = any((s < 0).any() for s in strips) or view.e.residual is not None
    return (Scale.signed if signed else Scale.strength)(strips, cmap, unit)


def _heading(view: View, summed: bool) -> str:
    count = view.e.score.shape[-1]
    more = f" The first of {count} samples." if count > 1 else ""
    said = f"{view.e.method}: {view.verdict()}{more}"
    if view.cam:
        return f"{said} High is where the class is seen in `{view.e.layer}`."
    if view.e.points is not None:
        return f"{said} High is where what it was read off is dense."
    if not view.signed and all((v >= 0).all() for _, v in view.flat()):
        return f"{said} The higher, the more the score hangs on it, either way."
    bars = " Bars: all channels of a step together." if summed else ""
    return f"{said} Up and red speak for the class, down and blue against it.{bars}"


class _Part:
    """One attributed tensor of the sample: for every class its values, steps first."""

    def __init__(self, view: View, name: str) -> None:
        self.view, self.name = view, name
        e = view.e
        whole = view.cam or e.points is not None
        own = None if whole else e.by_sample(e.attributions[name], e.score.ndim - 1)
        found = view.maps if own is None else view.pick(own)
        self.over = e.source if whole else name
        """The tensor that the steps are those of."""
        self.last = self.over in e.channels_last
        if found.ndim > 3:  # more axes than can be drawn: what is left of them are the channels
            found = found.reshape(*found.shape[:2], -1)
        elif found.ndim == 3 and not self.last:
            found = np.moveaxis(found, 1, 2)
        self.values = found.reshape(len(found), found.shape[1] if found.ndim > 1 else 1, -1)
        self.steps, self.channels = self.values.shape[1:]
        self.placed = bool(self.over) and self._rank > 2

    @property
    def _rank(self) -> int:
        e = self.view.e
        given = e.inputs.get(self.over) if self.over else None
        return given.ndim if given is not None else len(e.shape_of(str(self.over)))

    @property
    def striped(self) -> bool:
        return 1 < self.channels <= STRIPES

    def rows(self, scale: Scale) -> Iterator[_Row]:
        sums = self.values.sum(-1, dtype=np.float64)
        reach = max(1e-12, float(np.abs(sums).max())) * 1.1
        low = -reach if (sums < 0).any() or self.view.e.residual is not None else 0.0
        several = len(self.view.e.attributions) > 1 and not self.view.cam
        seen = self._seen()
        if seen is not None:
            yield _Row(1.5, partial(self._draw_seen, seen=seen))
        for title, total, values in zip(self._titles(), sums, self.values, strict=True):
            named = f"{self.name}: {title}" if several else title
            yield _Row(1.6, partial(self._draw_sums, sums=total, title=named, ends=(low, reach)))
            if self.striped:
                high = float(np.clip(0.12 * self.channels, 0.7, 2.4)) + 0.3
                yield _Row(high, partial(self._draw_strip, values=values, scale=scale), strip=True)

    def _titles(self) -> list[str]:
        e, titles = self.view.e, [t.replace("\n", ", ") for t in self.view.titles()]
        if e.constant is None:
            return titles
        given = self.values.sum((1, 2), dtype=np.float64)
        rest = self.view.pick(e.constant)
        return [
            f"{t}; shares {s:.4g}, constants {c:.4g}"
            for t, s, c in zip(titles, given, rest, strict=True)
        ]

    def _seen(self) -> Array | None:
        """The sequence itself, [steps, channels], where it is an input."""
        given = self.view.e.inputs.get(self.over) if self.placed and self.over else None
        if given is None:
            return None
        sample = self.view.e.by_sample(given)[self.view.i]
        own = sample if self.last else np.moveaxis(sample, 0, -1)
        return own.reshape(len(own), -1) if len(own) == self.steps else None

    def _label(self, ax: Any) -> None:
        if not self.placed:
            ax.set_xlabel(f"feature of `{self.over}`", size=9)
            return
        axis = 1 if self.last else self._rank - 1
        given = self.view.e.inputs.get(str(self.over))
        if given is not None and self.view.e.by_sample(given) is not given:
            axis = 0  # the steps come before the one sample
        ax.set_xlabel(f"step (axis {axis} of `{self.over}`)", size=9)

    def _draw_seen(self, ax: Any, seen: Array) -> None:
        many = seen.shape[1]
        if many <= LINES:
            for k in range(many):
                ax.plot(seen[:, k], linewidth=0.9, label=str(k))
            if many > 1:
                ax.legend(
                    title="channel", ncols=2, fontsize=7, title_fontsize=7, loc="upper left",
                    bbox_to_anchor=(1.0, 1.0), frameon=False,
                )  # fmt: skip
        else:
            ax.imshow(seen.T, cmap="gray", aspect="auto", interpolation="nearest")
            ax.set_ylabel("channel", size=8)
        ax.set_xlim(-0.6, self.steps - 0.4)
        ax.set_title(f"what the model sees: `{self.over}`", size=10, loc="left")

    def _draw_sums(self, ax: Any, sums: Array, title: str, ends: tuple[float, float]) -> None:
        place = np.arange(self.steps)
        if self.steps <= BARS:
            ax.bar(place, sums, width=0.8, color=np.where(sums >= 0, FOR, AGAINST))
        else:
            ax.fill_between(place, np.maximum(sums, 0), 0, color=FOR, linewidth=0.3)
            ax.fill_between(place, np.minimum(sums, 0), 0, color=AGAINST, linewidth=0.3)
        ax.axhline(0, color="#666666", linewidth=0.6)
        ax.set_ylim(*ends)
        ax.set_xlim(-0.6, self.steps - 0.4)
        if self.steps <= 20:
            ax.set_xticks(place)
        ax.set_title(title, size=10, loc="left")
        if not self.striped:
            self._label(ax)

    def _draw_strip(self, ax: Any, values: Array, scale: Scale) -> None:
        ax.imshow(
            values.T,
            cmap=scale.cmap,
            vmin=scale.low,
            vmax=scale.high,
            aspect="auto",
            interpolation="nearest",
        )
        if self.channels <= LINES:
            ax.set_yticks(range(self.channels))
        ax.set_xlim(-0.6, self.steps - 0.4)
        if self.steps <= 20:
            ax.set_xticks(range(self.steps))
        ax.set_ylabel("channel", size=8)
        self._label(ax)
