"""Pictures for a page: small files, written into the page as text."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from onnxexplain.figures.panels import Scale

Array = np.ndarray[Any, Any]


def bytes_of(content: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(content).decode("ascii")


def reduced(values: Array, side: int) -> Array:
    """Return a map with no side longer than ``side``; each pixel is the mean of what it covers."""
    height, width = values.shape
    ratio = side / max(height, width)
    if ratio >= 1:
        return values
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(plane.resize(size, Image.Resampling.BOX))


def shown(values: Array, scale: Scale) -> str:
    """Return a map in its colours as a PNG with a palette, in base64."""
    levels = 127  # odd, so that zero is the middle one and white
    place = (values - scale.low) / (scale.high - scale.low)
    index = (np.clip(place, 0, 1) * (levels - 1)).round().astype(np.uint8)
    image = Image.fromarray(index)
    image.putpalette(scale.rgb(np.linspace(scale.low, scale.high, levels)).tobytes())
    return _encoded(image, "PNG", optimize=True)


def jpeg(image: Array) -> str:
    """Return a photograph as a JPEG in base64."""
    return _encoded(Image.fromarray(image), "JPEG", quality=88, subsampling=0)


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return bytes_of(buffer.getvalue())


def grid(maps: Array, scale: Scale, columns: int = 8) -> list[list[str]]:
    """Return feature maps [F,h,w] as pictures, in rows of eight."""
    pictures = [shown(m, scale) for m in maps]
    return [pictures[i : i + columns] for i in range(0, len(pictures), columns)]


def bars(values: Sequence[float] | Array, reach: float) -> list[dict[str, Any]]:
    """Return the bars of a plot that goes from -reach to reach, in hundredths of its height."""
    made = []
    for k, value in enumerate(values):
        height = abs(float(value)) / reach * 50
        top = 50 - height if value >= 0 else 50
        sign = "for" if value >= 0 else "against"
        made.append(
            {"x": k, "y": round(top, 2), "h": round(height, 2), "sign": sign, "value": float(value)}
        )
    return made
