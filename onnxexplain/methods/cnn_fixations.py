"""CNN fixations: the pixels an answer was read off, found without a derivative."""

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from onnxexplain.errors import MethodError
from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.methods.fixations import Marks, fixate
from onnxexplain.tensor import Arrays

Array = np.ndarray[Any, Any]

BLUR = 20 / 224
"""The authors' blur, 20 pixels, as a part of their image's shorter side."""


@method(
    "cnn-fixations",
    summary="the pixels that the strongest contributions lead down to, as points and their density",
    reference="Mopuri, Garg and Babu 2019, IEEE TIP 28(5), arXiv 1708.06670",
    compiles=False,
)
@dataclass(frozen=True)
class CnnFixations(Method):
    """Go down from the score, at every node to the elements that contributed most.

    A dense layer hands on to all units that speak for it (to the one strongest place where its
    features are a flattened map), a convolution to the channel whose window contributes most and
    in it to one position, a pool to its largest element, a sum to its larger addend.

    Parameters
    ----------
    locate
        the position in a convolution's window: the largest ``contribution``, the largest
        ``activation`` (the authors' residual networks), or the window's ``centre`` (their others).
    head
        where a mean over positions follows the last weights, as in SqueezeNet: ``all`` hands on
        as the same means followed by a dense layer would, to every channel that speaks for the
        class; ``strongest`` takes the mean for a pool like any other, which leaves one point.
    keep
        how much of what speaks for a dense unit is followed, the strongest contributions first;
        less than 1 leaves the many weak ones out, as the paper allows. A point counts one, however
        little led to it, so that with 1 many lie beside the object: try 0.9.
    outliers
        whether points are dropped that have no more than one point in twenty within a tenth of the
        image's diagonal, themselves included.
    sigma
        the deviation of the Gaussian that makes the points a map, in pixels; by default the
        authors' 20 of 224, in proportion.
    """

    locate: Literal["contribution", "activation", "centre"] = "contribution"
    head: Literal["all", "strongest"] = "all"
    keep: float = 1.0
    outliers: bool = True
    sigma: float | None = None

    def __post_init__(self) -> None:
        sigma: object = self.sigma
        number = isinstance(sigma, int | float) and 0 < sigma < math.inf
        if sigma is not None and not number:
            raise MethodError(f"cnn-fixations: sigma is `{sigma}`; it must be above zero")
        keep: object = self.keep
        if not (isinstance(keep, int | float) and 0 < keep <= 1):
            raise MethodError(f"cnn-fixations: keep is `{keep}`; it must be above 0, and at most 1")

    def __call__(self, way: Way) -> Found:
        """Give 1 to every element of the input that a fixation ends at."""
        found = fixate(way, self.locate, self.head, self.keep)
        attributions, extra = {}, {}
        for name in way.wrt:
            ends = _dense(found.get(name), way.values[name])
            axis = ends.ndim - 1 if name in way.channels_last else 1
            counts = ends.sum(axis=axis) if ends.ndim > 2 else ends
            if ends.ndim > 2:
                if self.outliers:
                    kept = np.stack([crowded(sample) for sample in counts])
                    ends = ends * np.expand_dims(kept, axis)
                    counts = counts * kept
                extra[f"heatmap/{name}"] = blurred(counts, self.sigma)
            attributions[name] = ends
            extra[f"fixations/{name}"] = counts.astype(np.int32)
        module = cast(Arrays, way.xp).module
        passed = {n: module.asarray(_dense(marks, way.values[n])) for n, marks in found.items()}
        return Found(attributions, passed, extra)


def _dense(marks: Marks | None, like: Any) -> Array:
    """Return a tensor of zeros with ones at the marks."""
    ones = np.zeros(like.shape, "float64" if "64" in str(like.dtype) else "float32")
    if marks is not None:
        ones.reshape(-1)[marks.at] = 1
    return ones


def crowded(counts: Array) -> Array:
    """Return where points have more than a twentieth of all within a tenth of the diagonal.

    ``counts`` says how many fixations end at each pixel, of any rank; the result has its shape.
    Distances are compared as whole numbers, so no rounding decides.
    """
    points, width = np.argwhere(counts > 0), counts.shape[-1]
    square = (sum(n * n for n in counts.shape) - 1) // 100  # the largest that is near
    before = np.zeros((*counts.shape[:-1], width + 1), np.int64)
    np.cumsum(counts, axis=-1, out=before[..., 1:])
    company = np.zeros(len(points), np.int64)
    steps = range(-math.isqrt(square), math.isqrt(square) + 1)
    for step in itertools.product(steps, repeat=counts.ndim - 1):  # row by row of the disc
        rest = square - sum(n * n for n in step)
        row = points[:, :-1] + np.asarray(step, np.int64)
        inside = ((row >= 0) & (row < counts.shape[:-1])).all(axis=1)
        if rest < 0 or not inside.any():
            continue
        at, place, half = tuple(row[inside].T), points[inside, -1], math.isqrt(rest)
        company[inside] += before[(*at, np.minimum(place + half + 1, width))]
        company[inside] -= before[(*at, np.maximum(place - half, 0))]
    kept = np.zeros(counts.shape, bool)
    kept[tuple(points[20 * company > before[..., -1].sum()].T)] = True
    return kept


def blurred(counts: Array, sigma: float | None) -> Array:
    """Return maps [N,...] blurred by a Gaussian; near an edge too a point adds up to one."""
    heat = counts.astype(np.float64)  # float32 is slow at the tails of the bell
    sigma = sigma or BLUR * min(counts.shape[1:])
    for axis in range(1, counts.ndim):
        place = np.arange(counts.shape[axis])
        bell = np.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
        spread = bell / bell.sum(axis=0)
        heat = np.moveaxis(np.moveaxis(heat, axis, -1) @ spread.T, -1, axis)
    return heat.astype(counts.dtype)
