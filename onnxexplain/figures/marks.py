"""Pixels marked on a photograph: where a map is strong, still or blinking."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onnxexplain.figures.panels import Panel, sheet
from onnxexplain.figures.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

BLINK = 2500
"""Milliseconds that each frame of the blinking picture stands, as in the authors' article."""

MARK = "PuOr"
"""Its upper end, a dark violet, is what the authors mark pixels with."""


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
