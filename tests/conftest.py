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


SLOW = {
    "test_attention",
    "test_control_flow",
    "test_converted_models",
    "test_light_models",
    "test_normalisation_geometry",
    "test_recurrent",
    "test_reduction_geometry",
    "test_spatial_geometry",
    "test_torch_recurrent",
    "test_torch_zoo",
}
"""Files that take minutes each: ``pytest -m slow`` runs them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
