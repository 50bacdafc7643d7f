"""The handwritten digits that scikit-learn carries, and which of them train.

1,797 digits of 13 people, 8x8 pixels of 17 levels (E. Alpaydin and C. Kaynak, "Optical Recognition
of Handwritten Digits", UCI Machine Learning Repository 1998, CC BY 4.0).
"""

from dataclasses import dataclass

import numpy as np

LEVELS = 16
HELD_OUT = 600


@dataclass(frozen=True)
class Digits:
    """Images uint8 [N, 8, 8] of 0 to 16, white ink on black, and which digit each shows [N]."""

    images: np.ndarray
    labels: np.ndarray


def split(seed: int = 0) -> tuple[Digits, Digits]:
    """Return the digits to train on and those held out; the same ones for the same seed."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = found.images.astype(np.uint8), found.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = order[HELD_OUT:], order[:HELD_OUT]
    train, held_out = (Digits(images[part], labels[part]) for part in parts)
    return train, held_out


def ready(images: np.ndarray) -> np.ndarray:
    """Make what the networks take: float32 [N, 1, 8, 8] in 0..1."""
    return images[:, None].astype(np.float32) / LEVELS


def means(digits: Digits) -> np.ndarray:
    """Average the images of each digit: float32 [10, 1, 8, 8] in 0..1."""
    x = ready(digits.images)
    return np.stack([x[digits.labels == digit].mean(0) for digit in range(10)])
