"""On a card: eager on CuPy and compiled on the CUDA provider give what the CPU gives."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox

MODELS = Path(__file__).parents[1] / "models"


def has_card():
    try:
        import cupy
        import onnxruntime

        return (
            cupy.cuda.runtime.getDeviceCount() > 0
            and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        )
    except Exception:  # cupy raises its own kinds where there is no driver
        return False


pytestmark = pytest.mark.skipif(not has_card(), reason="no CUDA card, CuPy or CUDA provider here")


@pytest.fixture(scope="module")
def retina():
    pixels = np.asarray(Image.open(MODELS / "dr_retina.png").convert("RGB"), np.float32) / 255
    mean, std = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
    return ((pixels - mean) / std).transpose(2, 0, 1)[None]


def cosine(a, b):
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.mark.parametrize(
    "method", ["score-propagation", "gradient", "input-x-gradient", "grad-cam"]
)
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_card_equals_cpu(retina, engine, method):
    cpu = ox.explain(MODELS / "dr640.onnx", retina, method, targets="all", device="cpu")
    card = ox.explain(
        MODELS / "dr640.onnx", retina, method, targets="all", device="cuda", engine=engine
    )
    for name, ours in card.attributions.items():
        assert cosine(ours, cpu.attributions[name]) >= 0.99999
    if card.residual is not None:
        assert np.abs(card.residual).max() < 1e-5
