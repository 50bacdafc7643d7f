"""What the tests of quantised models share: what a file computes, and its derivative."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxexplain as ox
from onnxexplain.graph import lower
from onnxexplain.ops import role_of
from onnxexplain.runtime import evaluate, newest, run_once

both_engines = pytest.mark.parametrize("engine", ["eager", "compiled"])


def lowered(proto, feeds, dtype="float32"):
    sizes = {name: value.shape for name, value in feeds.items()}
    return lower(proto, sizes, run_once, dtype, newest(), role_of)


def frozen(proto, feeds):
    """The lowered model in float64 with each rounding a constant, and each clipped element too."""
    model = lowered(proto, feeds, "float64").proto
    grids = [node for node in model.graph.node if node.op_type == "FakeQuantize"]
    assert grids
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    wide = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()}
    wanted = [t for n in grids for t in (*n.input, n.output[0]) if t not in held]
    found = held | evaluate(model, wide, list(dict.fromkeys(wanted)))
    nodes = []
    for node in model.graph.node:
        if node.op_type != "FakeQuantize":
            nodes.append(node)
            continue
        said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        x, scale, zero = (found[t] for t in node.input)
        shape = [-1 if i == said["axis"] % x.ndim else 1 for i in range(x.ndim)]
        scale, zero = (v.reshape(shape) if v.size > 1 else v.reshape(()) for v in (scale, zero))
        number = np.round(x / scale) + zero.astype(np.float64)
        inside = (number >= said["low"]) & (number <= said["high"])
        parts = {
            "on": inside.astype(np.float64),
            "more": found[node.output[0]] - np.where(inside, x, 0),
        }
        for part, value in parts.items():
            model.graph.initializer.append(numpy_helper.from_array(value, f"{node.name}_{part}"))
        kept = f"{node.name}_kept"
        nodes.append(helper.make_node("Mul", [node.input[0], f"{node.name}_on"], [kept]))
        nodes.append(helper.make_node("Add", [kept, f"{node.name}_more"], [node.output[0]]))
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def numeric(proto, feeds, seed, direction, step=1e-6):
    """The derivative along a direction by central difference, roundings held fixed."""
    model = frozen(proto, feeds)

    def total(sign):
        moved = {n: v + sign * step * direction[n] for n, v in feeds.items() if n in direction}
        return float((seed * evaluate(model, feeds | moved, ["y"])["y"]).sum())

    return (total(1) - total(-1)) / (2 * step)


def holds(proto, feeds):
    """The file's own answer; derivatives by difference, eager, compiled; everything shared out."""
    answers = run_once(proto, feeds, ["y"])[0]
    ours = evaluate_as_it_runs(proto, feeds)
    off = np.abs(ours - answers)
    assert np.mean(off > 1e-6 * np.abs(answers).max()) < 0.05  # the mean of two numbers is a tie
    assert off.max() < 0.0301  # a step
    rng = np.random.default_rng(0)
    seed = rng.standard_normal(answers.shape).astype(np.float32)
    direction = {n: rng.standard_normal(v.shape) for n, v in feeds.items() if v.dtype.kind == "f"}
    wide = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()}
    asked = {"target": seed, "output": "y"}
    exact = ox.explain(proto, feeds, "gradient", engine="eager", dtype="float64", **asked)
    along = sum((exact.attributions[n] * d).sum() for n, d in direction.items())
    assert along == pytest.approx(numeric(proto, wide, seed, direction), rel=1e-5, abs=1e-6)
    assert along
    for engine in ("eager", "compiled"):
        found = ox.explain(proto, feeds, "gradient", engine=engine, **asked)
        for name, value in exact.attributions.items():
            size = max(1, np.abs(value).max())
            assert np.allclose(found.attributions[name], value, atol=2e-5 * size)
        e = ox.explain(proto, feeds, engine=engine, **asked)
        assert np.abs(e.residual).max() < 1e-5
    return exact


def evaluate_as_it_runs(proto, feeds):
    return run_once(lowered(proto, feeds).proto, feeds, ["y"])[0]


def x_of(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numbers(*shape, seed=0, kind=np.int8, whole=False):
    """Numbers of a type, signed bytes in seven bits, unless it is the ``whole`` type.

    With more, sums of two products overflow in ONNX Runtime on processors without VNNI, and what it
    answers is not what the file says.
    """
    info, less = np.iinfo(kind), 2 if kind is np.int8 and not whole else 1
    drawn = np.random.default_rng(seed).integers(info.min // less, info.max // less + 1, shape)
    return drawn.astype(kind)


U8 = {"s": 0.03, "z": np.uint8(120)}
I8 = {"s": 0.03, "z": np.int8(-3)}
