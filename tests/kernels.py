"""Nets of one operator of ONNX Runtime's own, compared with its kernel."""

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.graph import lower
from onnxexplain.ops import role_of
from onnxexplain.runtime import newest, run_once
from tests.builders import Numeric, flat, net

DOMAIN = "com.microsoft"
ENGINES = ("eager", "compiled")


def x_of(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def agrees(proto, feeds, kernel=True):
    """The lowered model gives the kernel's outputs; derivatives by difference, eager, compiled."""
    proto = flat(proto)
    rows = {f"{n}_row": v.reshape(1, -1) for n, v in feeds.items()}
    sizes = {n: v.shape for n, v in rows.items()}
    lowered = lower(proto, sizes, run_once, "float32", newest(), role_of)
    assert {n.domain for n in lowered.nodes} == {""}
    ours = run_once(lowered.proto, rows, ["scores"])[0]
    if kernel:
        theirs = run_once(proto, rows, ["scores"])[0]
        assert np.allclose(ours, theirs, atol=2e-5 * max(1, np.abs(theirs).max()))
    rng = np.random.default_rng(1)
    seed = rng.standard_normal(ours.shape).astype(np.float32)
    exact = ox.explain(proto, rows, "gradient", target=seed, engine="eager", dtype="float64")
    direction = {n: rng.standard_normal(v.shape) for n, v in rows.items()}
    along = sum((exact.attributions[n] * d).sum() for n, d in direction.items())
    numeric = Numeric(proto, rows, "scores", seed).along(direction)
    assert along == pytest.approx(numeric, rel=1e-5, abs=1e-6)
    for engine in ENGINES:
        found = ox.explain(proto, rows, "gradient", target=seed, engine=engine)
        for name, value in exact.attributions.items():
            size = max(1, np.abs(value).max())
            assert np.allclose(found.attributions[name], value, atol=1e-4 * size), engine
        e = ox.explain(proto, rows, target=seed, engine=engine)
        assert np.abs(e.residual).max() < 2e-5
    return lowered


def made(body, **held):
    """Return a model of a body, with what it reads of ``held``, and inputs for it."""
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    proto = net(body, domain=DOMAIN, **{n: v for n, v in held.items() if n in words})
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.input
    }
    return proto, {n: x_of(*s, seed=i) for i, (n, s) in enumerate(shapes.items())}
