"""Where the windows of convolutions and pools lie."""

from collections.abc import Sequence

import numpy as np

from onnxexplain.methods.fixations.marks import Array
from onnxexplain.tensor import Window


def places(at: Sequence[Array], window: Window, sizes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return what the windows at some output positions see of an input.

    Parameters
    ----------
    at
        the positions, one array [K] per spatial axis.
    sizes
        the input's spatial sizes.

    Returns
    -------
    place, inside : ndarray
        both [K, taps] in the window's row-major order: the place of each element among the input's
        positions (any where it is padding), and whether it is one of them.
    """
    taps = np.indices(window.kernel).reshape(window.rank, -1)
    place = np.zeros((len(at[0]), taps.shape[1]), np.int64)
    inside = np.ones(place.shape, bool)
    for axis, n in enumerate(sizes):
        start = at[axis] * window.strides[axis] - window.pads[axis]
        along = start[:, None] + taps[axis] * window.dilations[axis]
        inside &= (along >= 0) & (along < n)
        place = place * n + np.clip(along, 0, n - 1)
    return place, inside
