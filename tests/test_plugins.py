"""Operators from elsewhere: registered in Python, by a module, by an installed package."""

import importlib.metadata
import json
import sys

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain import ops, plugins
from onnxexplain.cli import run
from onnxexplain.graph.spelled import _spelling
from onnxexplain.ops import _operator
from tests.builders import net, weights

CUBE = """
import onnxexplain as ox

@ox.register_lowering("com.microsoft", "BitmaskDropout")
def bitmask_dropout(scope):
    scope.write("Identity", scope.node.inputs[0], to=scope.node.outputs[0])
    return True

@ox.register_operator("com.microsoft", "Inverse", role="product")
def inverse(xp, g, y, x):
    turned = xp.permute_dims(y, (0, 2, 1))
    return (-xp.matmul(xp.matmul(turned, g), turned),)
"""


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(_operator, "_OPERATORS", dict(_operator._OPERATORS))
    monkeypatch.setattr(_spelling, "_SPELLINGS", dict(_spelling._SPELLINGS))
    yield
    plugins.load_installed.cache_clear()
    sys.modules.pop("plugged", None)


def inverting():
    """A model around an operator that ONNX Runtime runs and nobody has a rule for."""
    return net(
        """(float[N,3,3] x) => (float[N,4] y) { s = Add(x, eye)
        i = com.microsoft.Inverse(s)  r = Relu(i)  f = Flatten(r)  y = Gemm(f, w, b) }""",
        domain="com.microsoft",
        eye=4 * np.eye(3, dtype=np.float32),
        **weights(1, w=(9, 4), b=(4,)),
    )


X = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)


def by_difference(proto, x, target, step=1e-2):
    """Return the gradient of a class, by central differences in float32."""
    found = np.zeros_like(x)
    for place in np.ndindex(*x.shape[1:]):
        moved = np.zeros_like(x)
        moved[(slice(None), *place)] = step
        ahead, behind = (
            ox.explain(proto, x + m, "gradient", wrt="f", target=target).score
            for m in (moved, -moved)
        )
        found[(slice(None), *place)] = (ahead - behind) / (2 * step)
    return found


def test_unknown_it_is_named_with_a_way_out():
    message = "no way back through com.microsoft.Inverse .node `Inverse_1`.*output=.*wrt=`i`"
    with pytest.raises(ox.UnsupportedOperator, match=message):
        ox.explain(inverting(), X)


def test_what_follows_it_can_be_explained():
    e = ox.explain(inverting(), X, wrt="i")
    assert np.abs(e.residual).max() < 1e-6


@pytest.mark.parametrize("engine", ["compiled", "eager"])
def test_registered_it_is_explained(engine):
    @ox.register_operator("com.microsoft", "Inverse", role="product")
    def inverse(xp, g, y, x):
        turned = xp.permute_dims(y, (0, 2, 1))
        return (-xp.matmul(xp.matmul(turned, g), turned),)

    proto = inverting()
    e = ox.explain(proto, X, "gradient", target=1, engine=engine)
    assert np.allclose(e.attributions["x"], by_difference(proto, X, 1), atol=2e-3)
    assert np.abs(ox.explain(proto, X, target=1, engine=engine).residual).max() < 1e-6


def test_with_an_offset_of_its_own():
    def offset(xp, y, x, *, varies):
        return 2.0 * y  # of an inverse: y - J x = 2 y

    @ox.register_operator("com.microsoft", "Inverse", role="product", offset=offset)
    def inverse(xp, g, y, x):
        turned = xp.permute_dims(y, (0, 2, 1))
        return (-xp.matmul(xp.matmul(turned, g), turned),)

    assert np.abs(ox.explain(inverting(), X, target=1).residual).max() < 1e-6


def test_spelled_out():
    @ox.register_lowering("my.domain", "Cube")
    def cube(scope):
        (x,), (y,) = scope.node.inputs, scope.node.outputs
        scope.write("Mul", x, scope.write("Mul", x, x), to=y)
        return True

    proto = net("(float[N,3] x) => (float[N,3] y) { y = my.domain.Cube(x) }", domain="my.domain")
    e = ox.explain(proto, X[0, :1], "gradient", target=2)
    assert e.attributions["x"][0].tolist() == pytest.approx([0, 0, 3 * X[0, 0, 2] ** 2])


def test_what_is_known_is_not_taken_by_accident():
    with pytest.raises(ox.MethodError, match="Relu is known already; say replace=True"):
        ox.register_operator("", "Relu")
    with pytest.raises(ox.MethodError, match="QuickGelu is spelled out already"):
        ox.register_lowering("com.microsoft", "QuickGelu")
    with pytest.raises(ox.MethodError, match="`gate` is no role"):
        ox.register_operator("my.domain", "Cube", role="gate")
    relu = ops.find("", "Relu").back
    ox.register_operator("", "Relu", replace=True)(relu)
    assert ops.find("", "Relu").back is relu


# ----- A module, a package -----


def test_a_plugin_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugged.py").write_text(CUBE)
    (tmp_path / "m.onnx").write_bytes(inverting().SerializeToString())
    np.save(tmp_path / "x.npy", X)
    assert run(["inspect", "m.onnx", "--plugin", "plugged", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["explainable"]
    assert run(["explain", "m.onnx", "x.npy", "-o", "out", "--plugin", "plugged"]) == 0
    with np.load(tmp_path / "out" / "x.npz") as held:
        assert held["attribution/x"].shape == X.shape
    assert run(["explain", "m.onnx", "x.npy", "--plugin", "not_there"]) == 2
    assert "--plugin not_there: cannot be imported" in capsys.readouterr().err


def test_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "plugged.py").write_text(CUBE)
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("mine", "plugged", plugins.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    plugins.load_installed.cache_clear()
    assert np.abs(ox.explain(inverting(), X).residual).max() < 1e-6


def test_a_broken_package_is_named(monkeypatch):
    entry = importlib.metadata.EntryPoint("broken", "no_such_module_at_all", plugins.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    plugins.load_installed.cache_clear()
    with pytest.raises(ox.ModelError, match=r"the plugin broken .no_such_module_at_all. cannot"):
        ox.Explainer(inverting())
