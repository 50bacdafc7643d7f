"""The other commands, and what all of them have in common."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from tests.builders import net
from tests.conftest import CHECKOUT

COMMANDS = ("explain", "inspect", "methods", "prototype", "demo", "dr-network")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(call, command):
    told = call(command, "--help")
    assert told.code == 0
    flat = " ".join(told.out.split())
    assert f"Example: onnxexplain {command}" in flat
    for option in ("--device", "--json", "--threads", "--quiet", "--version", "--debug"):
        assert option in told.out


@pytest.mark.parametrize("command", [(), ("explain",), ("methods",)])
def test_the_version_is_told(call, command):
    told = call(*command, "--version")
    assert (told.code, told.out.split()[0]) == (0, "onnxexplain")


def test_nothing_given_is_help_and_nothing_known_is_an_error(call):
    assert "inspect" in call().out
    told = call("inspekt")
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "inspect" in told.err


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from onnxexplain.cli import run; run(['--help']);"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'matplotlib', 'PIL', 'networkx'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "onnxexplain", "methods", "--json"], capture_output=True, text=True
    )
    assert {m["name"] for m in json.loads(done.stdout)} >= {"score-propagation", "grad-cam"}


def test_methods_are_listed(call):
    told = call("methods")
    assert "score-propagation" in told.out
    assert "grad-cam" in told.out


def test_inspect_shows_what_is_in_a_model(call):
    told = call("inspect", "model.onnx")
    assert told.code == 0
    for said in (
        "Conv",
        "linear",
        "MaxPool",
        "explained by default: `y`",
        "onnxexplain.labels",
    ):
        assert said in told.out
    record = call("inspect", "model.onnx", "--json").json
    assert record["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 3, 24, 24]}]
    assert record["explainable"] is True
    assert record["unsupported"] == []


def test_inspect_writes_metadata(call, here):
    (here / "labels.json").write_text('["a", "b", "c", "d"]')
    recipe = '{"scale": 255, "channels": "bgr"}'
    written = call(
        "inspect", "model.onnx", "--set-metadata", "labels=@labels.json",
        "--set-metadata", f"preprocess={recipe}", "--set-metadata", "note=mine",
    )  # fmt: skip
    assert written.code == 0, written.err
    held = {p.key: p.value for p in onnx.load(here / "model.onnx").metadata_props}
    assert json.loads(held["onnxexplain.labels"]) == ["a", "b", "c", "d"]
    assert json.loads(held["onnxexplain.preprocess"]) == json.loads(recipe)
    assert held["note"] == "mine"


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        ("labels", 2),
        ("labels=[1, 2]", 1),
        ("labels={", 1),
        ("preprocess=[]", 1),
        ('preprocess={"siz": 3}', 1),
        ("labels=@nothing.json", 1),
    ],
)
def test_metadata_is_checked_first(call, here, pair, code):
    before = (here / "model.onnx").read_bytes()
    assert call("inspect", "model.onnx", "--set-metadata", pair).code == code
    assert (here / "model.onnx").read_bytes() == before


def test_inspect_names_what_cannot_be_explained(call, here):
    odd = net("(float[N,3] x) => (float[N,3] z) { y = my.Odd(x)  z = Relu(y) }", domain="my")
    onnx.save(odd, here / "odd.onnx")
    record = call("inspect", "odd.onnx", "--json").json
    assert record["explainable"] is False
    assert [n["op"] for n in record["unsupported"]] == ["Odd"]
    assert "no way back" in call("inspect", "odd.onnx").out
    assert call("inspect", "nothing.onnx").code == 2


def dr_weights(rng) -> dict[str, np.ndarray]:
    """Random weights of the retina network, narrow enough to be quick."""
    from onnxexplain.dr import LAYERS

    arrays, channels = {}, 3
    for layer in LAYERS:
        side = 2 if layer == "rf637" else 3
        arrays[f"{layer}.conv.weight"] = rng.standard_normal((2, channels, side, side))
        arrays[f"{layer}.conv.bias"] = rng.standard_normal(2)
        arrays |= {f"{layer}.bn.{k}": np.ones(2) for k in ("weight", "bias", "running_var")}
        arrays[f"{layer}.bn.running_mean"] = np.zeros(2)
        channels = 2
    return arrays | {"lc.weight": rng.standard_normal((5, 2)), "lc.bias": np.zeros(5)}


def test_the_retina_network_is_written_from_its_weights(call, here, rng):
    np.savez(here / "weights.npz", **dr_weights(rng))
    told = call("dr-network", "weights.npz", "-o", "dr.onnx", "--json")
    assert told.code == 0, told.err
    assert onnx.load(here / "dr.onnx").graph.input[0].name == "input"
    assert told.json["bytes"] == (here / "dr.onnx").stat().st_size
    np.savez(here / "wrong.npz", a=np.ones(3))
    assert call("dr-network", "wrong.npz").code == 1
    assert call("dr-network", "nothing.npz").code == 2
    assert call("dr-network", "weights.npz", "-o", "weights.npz").code == 1


@pytest.mark.skipif(
    not (CHECKOUT / "models/dr640.onnx").is_file(), reason="the bundled model is not here"
)
def test_the_demo_explains_the_bundled_retina(call, here):
    told = call("demo")
    assert told.code == 0, told.err
    assert "Grade: 4 proliferative DR" in told.out
    folder = here / "onnxexplain-demo"
    for kind in ("png", "gif", "html", "json", "npz"):
        assert (folder / f"dr_retina.{kind}").is_file()
    assert (folder / "dr_retina.html").stat().st_size < 6e6
    assert len(list((folder / "figures").iterdir())) >= 19
    record = json.loads((folder / "dr_retina.json").read_text())
    assert np.abs(record["residual"]).max() < 1e-5
