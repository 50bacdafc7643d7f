"""What many tests need: the folder of real models and images, and a random number generator."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# Examples are drawn the same way each time; a slow machine is no failure.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("suite")

CHECKOUT = Path(__file__).parent.parent


def data_file(name: str) -> Path | None:
    """Return a file of the data folder, which ``$ONNXEXPLAIN_DATA`` names."""
    folder = Path(os.environ.get("ONNXEXPLAIN_DATA") or CHECKOUT.parent / "shared")
    places = (folder / name, folder / "data" / name, folder.parent / name)
    return next((place for place in places if place.is_file()), None)


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """Find a file of the data folder; the test is skipped where it is missing."""

    def find(name: str) -> Path:
        path = data_file(name)
        if path is None:
            pytest.skip(f"{name} is not in the data folder ($ONNXEXPLAIN_DATA, or ../shared)")
        return path

    return find


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
