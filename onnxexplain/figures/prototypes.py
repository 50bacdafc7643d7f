"""What a person looks at of a prototype: the images, how the loss fell, how they came about."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from onnxexplain.figures.panels import DPI, Panel, Scale, colours, sheet
from onnxexplain.figures.plot import features_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onnxexplain.prototypes.result import Prototype

Array = np.ndarray[Any, Any]

COLUMNS = 5
"""So many images stand in a row, as on the page this comes from."""

MOST = 50
"""How many images are drawn."""

TILE = 140
"""The least side of an image in the animation."""

FRAME, LAST = 120, 2500
"""Milliseconds that a frame of the animation stands, and the last of them."""

INK = {"score": "#b2182b", "mean": "#2166ac", "l2": "#1b7837", "tv": "#8c510a"}


# ----- The images -----


def images_figure(p: "Prototype", cmap: str | None = None) -> "Figure":
    """Return the figure of the images: five in a row, or bars where they are no pictures.

    Grey pictures share one scale, with a colour bar. The image given to start from stands first.
    """
    count = min(len(p.target), MOST)
    titles = [f"{name}\n{_odds(p, k)}" for k, name in enumerate(p.names[:count])]
    planes = p.canvas.read(p.images[:count])
    heading = _heading(p, count)
    if p.canvas.sizes is None or planes.ndim != 4:
        rows = list(planes.reshape(count, -1))
        flat = [title.replace("\n", ", ") for title in titles]
        return features_figure(rows, flat, heading, "place in the input")
    if p.options["start"] == "given":
        begun = p.canvas.read(p.start[:count])
        one = bool((begun == begun[:1]).all())
        planes = np.concatenate([begun[:1] if one else begun, planes])
        titles = (["the start"] * (1 if one else count)) + titles
    columns = min(len(titles), COLUMNS)
    if p.canvas.coloured:
        shown = p.canvas.pictures(planes)
        panels = [Panel(image, title) for image, title in zip(shown, titles, strict=True)]
        return sheet(panels, None, heading, columns)
    grey = planes.mean(axis=1)
    panels = [Panel(image, title) for image, title in zip(grey, titles, strict=True)]
    return sheet(panels, _grey_scale(p, grey, cmap), heading, columns, least=224)


def _grey_scale(p: "Prototype", maps: Array, cmap: str | None) -> Scale:
    label = "black 0 to white 1" if p.canvas.told else "value of the input"
    low, high = float(maps.min()), float(maps.max())
    return Scale(low, high if high > low else low + 1, colours(cmap or "gray"), label)


def _odds(p: "Prototype", k: int) -> str:
    probability = float(p.probabilities[k, p.target[k]])
    return f"probability {probability:.4f}" if probability < 0.99995 else "probability > 0.9999"


def _heading(p: "Prototype", count: int) -> str:
    start = {"given": "the image given", "mean": "the mean images"}.get(
        p.options["start"], p.options["start"]
    )
    more = f" The first {count} of {len(p.target)} classes." if count < len(p.target) else ""
    return (
        f"{p.method}: what the model takes for each class, painted by its gradient. "
        f"{len(p.loss) - 1:,} steps from {start}; loss {p.loss[0]:.3g} to {p.loss[-1]:.3g}.{more} "
        "It shows what the model answers to, not what such a thing must look like."
    )


# ----- The loss -----


def loss_figure(p: "Prototype") -> "Figure":
    """Return the loss before every step and after the last, and its parts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.subplots()
    steps = np.arange(len(p.loss))
    climbed = "minus the logit" if p.options["objective"] == "logit" else "cross-entropy"
    names = {"score": climbed, "mean": "distance from the mean image"}
    names |= {"l2": "length of the image", "tv": "total variation"}
    if len(p.losses) > 1:
        for name, part in p.losses.items():
            axes.plot(steps, part, color=INK[name], linewidth=1, label=names[name])
        axes.plot(steps, p.loss, color="#222222", linewidth=1.6, label="loss")
        axes.legend(frameon=False)
        axes.set_ylabel("loss")
    else:
        axes.plot(steps, p.loss, color="#222222", linewidth=1.6)
        axes.set_ylabel(climbed)
    if min(part.min() for part in p.losses.values()) >= 0 and p.loss.max() > 0:
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(p.loss.min() / 10, 1e-8))
    axes.set_xlabel("step")
    axes.set_title(f"{p.loss[0]:.4g} to {p.loss[-1]:.4g}", loc="left", size=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


# ----- The way there -----


def animation(p: "Prototype") -> bytes:
    """Return a GIF of the images on the way, without end; the last stands longer.

    One palette serves all frames, so that nothing but the images changes.
    """
    shown = [_tiles(frame) for frame in _pictures(p)]
    height, width = shown[0].shape[:2]
    # The last has the strongest colours; the first are near grey, and would crowd them out.
    palette = Image.fromarray(shown[-1]).quantize(256, Image.Quantize.MAXCOVERAGE)
    dither = Image.Dither.FLOYDSTEINBERG if p.canvas.coloured else Image.Dither.NONE
    frames = []
    for tiles, step in zip(shown, p.frame_steps, strict=True):
        canvas = Image.new("RGB", (width, height + 18), "white")
        canvas.paste(Image.fromarray(tiles))
        ImageDraw.Draw(canvas).text((4, height + 3), f"step {step:,}", fill="black")
        frames.append(canvas.quantize(palette=palette, dither=dither))
    buffer = BytesIO()
    times = [FRAME] * (len(frames) - 1) + [LAST]
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, disposal=1
    )
    return buffer.getvalue()


def _pictures(p: "Prototype") -> Array:
    """Return the frames as uint8 [frames,T,H,W,3]; grey ones on the scale of the last."""
    frames = p.frames[:, :MOST]
    planes = p.canvas.read(frames.reshape(-1, *p.canvas.shape))
    planes = planes.reshape(*frames.shape[:2], *planes.shape[1:])
    if p.canvas.coloured:
        return p.canvas.pictures(planes)
    grey = planes.mean(axis=2)
    place = (grey - grey[-1].min()) / max(float(np.ptp(grey[-1])), 1e-12)
    shades = (place.clip(0, 1) * 255).round().astype(np.uint8)
    return np.repeat(shades[..., None], 3, axis=-1)


def _tiles(pictures: Array) -> Array:
    """Return pictures [T,H,W,3] side by side, five in a row, white between them."""
    times = max(-(-TILE // max(pictures.shape[1:3])), 1)
    large = pictures.repeat(times, axis=1).repeat(times, axis=2)
    edge = [(0, 0), (2, 2), (2, 2), (0, 0)]
    large = np.pad(large, edge, constant_values=255)
    columns = min(len(large), COLUMNS)
    blank = np.full_like(large[:1], 255).repeat(-len(large) % columns, axis=0)
    rows = np.concatenate([large, blank]).reshape(-1, columns, *large.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
