"""On a card: eager on CuPy and compiled on the CUDA provider give what the CPU gives."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox
from tests.nets import NETS, data

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


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("name", NETS)
def test_every_operator_on_the_card(name, engine):
    feeds = data(NETS[name], 2)
    cpu = ox.explain(NETS[name], feeds, targets="all", device="cpu")
    card = ox.explain(NETS[name], feeds, targets="all", device="cuda", engine=engine)
    for tensor, ours in card.attributions.items():
        theirs = cpu.attributions[tensor]
        assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    assert np.abs(card.residual).max() < 1e-4


@pytest.mark.parametrize("method", ["guided-grad-cam", "crm", "cnn-fixations"])
def test_methods_of_the_sources_on_the_card(method):
    """Values of a network of squares and circles, copied over where a method needs them."""
    x = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    maps = [
        ox.explain(MODELS / "boxes58k.onnx", x, method, device=device, engine="eager").heatmap()
        for device in ("cpu", "cuda")
    ]
    assert cosine(*maps) >= 0.99999
