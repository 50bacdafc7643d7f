"""Networks of Paddle, written by paddle2onnx: Paddle's own gradients.

paddle2onnx holds on to an old onnx, so Paddle may live in an environment of its own:
`ONNXEXPLAIN_PADDLE` names the interpreter there; without it, this one is asked. There,
`pip install paddlepaddle paddle2onnx`; here, `pytest tests/oracles/test_paddle.py`.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxexplain as ox

pytestmark = pytest.mark.oracle

NETWORKS = ["convolutional", "upwards", "tokens", "recurrent"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What Paddle wrote: models, inputs, scores and gradients."""
    python = os.environ.get("ONNXEXPLAIN_PADDLE") or sys.executable
    needed = ("paddle", "paddle2onnx")
    if python == sys.executable and not all(map(importlib.util.find_spec, needed)):
        pytest.skip("Paddle and paddle2onnx are not installed, nor named by ONNXEXPLAIN_PADDLE")
    made = tmp_path_factory.mktemp("paddle")
    script = Path(__file__).with_name("paddle_networks.py")
    done = subprocess.run([python, script, made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return made


@pytest.mark.parametrize("way", ["raw", "folded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_shares(name, way, folder):
    path = folder / f"{name}.{way}.onnx"
    if way == "folded" and not path.exists():
        pytest.skip("the exporter folds only where ONNX Runtime is installed")
    theirs = np.load(folder / f"{name}.npz")
    for engine in ("compiled", "eager"):
        e = ox.explain(path, theirs["x"], "gradient", target=2, engine=engine)
        assert np.allclose(e.logits, theirs["scores"], rtol=1e-4, atol=1e-5)
        largest = np.abs(theirs["gradient"]).max()
        assert np.allclose(e.attributions["x"], theirs["gradient"], atol=1e-5 * largest)
        shares = ox.explain(path, theirs["x"], target=2, engine=engine)
        assert np.abs(shares.residual).max() < 1e-5
