"""Adam on an image: the loop that paints a prototype."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxexplain.errors import MethodError, ModelError
from onnxexplain.prototypes.canvas import Canvas
from onnxexplain.prototypes.objective import Slope
from onnxexplain.prototypes.penalties import Penalty
from onnxexplain.prototypes.settings import Settings

Array = np.ndarray[Any, Any]

Progress = Callable[[int, int, float], None]
"""Told the step, how many there are, and the loss."""

REPORTS = 200
"""So often at the most is progress told."""


@dataclass
class Track:
    """Where it went."""

    planes: Array
    scores: Array
    losses: dict[str, Array]
    """Each part of the loss at every step, [steps + 1]."""
    frames: list[Array] = field(default_factory=list)
    frame_steps: list[int] = field(default_factory=list)


class Adam:
    """Steps of about one size, whatever the gradient's (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, like: Array, rate: float, first: float = 0.9, second: float = 0.999) -> None:
        self.rate, self.first, self.second = rate, first, second
        self.mean, self.square, self.count = np.zeros_like(like), np.zeros_like(like), 0

    def __call__(self, g: Array) -> Array:
        """Return what is to be taken off, given the gradient."""
        self.count += 1
        self.mean *= self.first
        self.mean += (1 - self.first) * g
        self.square *= self.second
        self.square += (1 - self.second) * (g * g)
        length = np.sqrt(self.square)
        length /= (1 - self.second**self.count) ** 0.5
        length += 1e-8
        return self.mean / length * (self.rate / (1 - self.first**self.count))


def walk(
    start: Array,
    canvas: Canvas,
    slope: Slope,
    penalties: Mapping[str, Penalty],
    way: Settings,
    rng: np.random.Generator,
    tell: Progress | None = None,
) -> Track:
    """Descend from planes ``start`` [T,...]; the loss is the mean over the T samples.

    Each step shifts the image by up to ``jitter`` pixels, asks the model, shifts back, adds the
    penalties, moves, and keeps within the bounds. The last entry of every loss is that of the
    image returned, not shifted.

    Raises
    ------
    MethodError
        if the loss is no number any more.
    """
    x = start.copy()
    adam = Adam(x, way.rate)
    track = Track(x, x, {name: np.empty(way.steps + 1) for name in ("score", *penalties)})
    kept = _frames(way)
    for step in range(way.steps + 1):
        last = step == way.steps
        shift = (0, 0) if last or not way.jitter else rng.integers(-way.jitter, way.jitter + 1, 2)
        gradient, loss, track.scores = slope(canvas.paint(_rolled(x, shift)))
        g = _rolled(canvas.slope(gradient), -np.asarray(shift))
        track.losses["score"][step] = loss.mean(dtype=np.float64)
        for name, penalty in penalties.items():
            value, more = penalty(x)
            track.losses[name][step] = value.mean(dtype=np.float64)
            g = g + more
        total = float(sum(part[step] for part in track.losses.values()))
        _checked(total, step)
        if step in kept:
            track.frames.append(x.copy())
            track.frame_steps.append(step)
        if tell is not None and (last or step % _between(way.steps) == 0):
            tell(step, way.steps, total)
        if last:
            break
        x -= adam(g / len(x))
        if way.blur and (step + 1) % way.blur_every == 0:
            x = blurred(x, way.blur)
        if way.bounds is not None:
            np.clip(x, *way.bounds, out=x)
    track.planes = x
    return track


def reports(steps: int) -> int:
    """Return how often progress is told of so many steps."""
    return len({*range(0, steps, _between(steps)), steps})


def _between(steps: int) -> int:
    return max(steps // REPORTS, 1)


def _checked(loss: float, step: int) -> None:
    if np.isfinite(loss):
        return
    if step == 0:
        raise ModelError("the loss at the start is not finite: on it the model overflows")
    raise MethodError(f"step {step}: the loss is not finite any more; take a smaller rate")


def _frames(way: Settings) -> set[int]:
    """The steps to keep a picture of, close at first, where most happens."""
    if way.frames < 2:
        return set()
    part = np.linspace(0, 1, way.frames) ** 2
    return set((part * way.steps).round().astype(int).tolist())


def _rolled(x: Array, shift: Any) -> Array:
    """Shift pictures around their edges."""
    return np.roll(x, tuple(shift), axis=(-2, -1)) if np.any(shift) else x


def blurred(x: Array, deviation: float) -> Array:
    """Return pictures convolved with a normal curve of so many pixels, edges repeated."""
    reach = max(int(3 * deviation + 0.5), 1)
    places = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (places / deviation) ** 2)
    kernel = (kernel / kernel.sum()).astype(x.dtype)
    for axis in (-1, -2):
        widths = [(0, 0)] * x.ndim
        widths[axis] = (reach, reach)
        padded = np.pad(x, widths, mode="edge")
        n = x.shape[axis]
        parts = (np.take(padded, range(i, i + n), axis) * k for i, k in enumerate(kernel))
        x = sum(parts, np.zeros_like(x))
    return x
