"""Every ONNX node test of a registered operator: central difference = eager = compiled."""

import functools
import os
import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

import onnxexplain as ox
from onnxexplain.graph.floats import retype
from onnxexplain.ops import find, operators
from tests.builders import Numeric, flat, net
from tests.conformance.skipped import (
    ALONE,
    INTEGERS,
    NO_DERIVATIVE,
    NO_FLOAT_OUT,
    SKIPPED,
    TRAINING,
    reason,
)

FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
}


@functools.cache
def cases():
    """Return every ONNX node case, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the standard's own examples divide by zero
        found = collect_testcases(None)
    return {case.name: case for case in found if case.model is not None and case.model.graph.node}


@functools.cache
def differentiable():
    """Return the names of the cases that owe a derivative."""
    return [name for name, case in cases().items() if why_not(name, case) is None]


def why_not(name, case) -> str | None:
    """Return why a case owes no derivative, None where it does."""
    given = reason(name)
    if given is not None:
        return given
    if any("training" in node.domain for node in case.model.graph.node):
        return TRAINING
    if FLOATS.isdisjoint(kinds(case.model.graph.input)):
        return INTEGERS
    if FLOATS.isdisjoint(kinds(case.model.graph.output)):
        return NO_FLOAT_OUT
    return None if _reaches(case.model.graph) else NO_DERIVATIVE


def kinds(values) -> set[int]:
    return {v.type.tensor_type.elem_type for v in values}


def _reaches(graph) -> bool:
    """Whether a float of an input may flow to a float of an output."""
    moving = {v.name for v in graph.input if v.type.tensor_type.elem_type in FLOATS}
    for node in graph.node:
        operator = find(node.domain, node.op_type)
        fixed = operator.fixed if operator else ()
        stops = operator is not None and operator.role == "stop"
        free = {t for slot, t in enumerate(node.input) if slot not in fixed}
        inner = {t for a in node.attribute for t in _inner_reads(a.g)}
        if not stops and not moving.isdisjoint(free | inner):
            moving.update(node.output)
    floats = {v.name for v in graph.output if v.type.tensor_type.elem_type in FLOATS}
    return not moving.isdisjoint(floats)


def _fixed(node) -> tuple[int, ...]:
    """Return the inputs that must be constant; of an Upsample those of the Resize it becomes."""
    operator = find(node.domain, "Resize" if node.op_type == "Upsample" else node.op_type)
    return () if operator is None else operator.fixed


def _inner_reads(graph):
    return {t for node in graph.node for t in node.input} | {v.name for v in graph.output}


def model_of(case):
    """Return the case as a model of rows in float32, and its feeds.

    What is no variable is an initialiser: integers, and floats that are infinite. An output that
    is infinite is no score.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    graph = proto.graph
    fixed = {
        node.input[slot] for node in graph.node for slot in _fixed(node) if slot < len(node.input)
    }
    feeds, kept = {}, []
    for value, given in zip(graph.input, case.data_sets[0][0], strict=True):
        narrow = isinstance(given, onnx.TensorProto)  # of a type that NumPy has not
        array = numpy_helper.to_array(given) if narrow else np.asarray(given)
        if value.type.tensor_type.elem_type in FLOATS:
            array = array.astype(np.float32)
        finite = array.dtype == np.float32 and np.isfinite(array).all()
        if finite and value.name not in fixed:
            for dim, size in zip(value.type.tensor_type.shape.dim, array.shape, strict=True):
                dim.dim_value = size
            kept.append(value)
            inside = 0.8 if case.name.endswith(BOUNDED) else 1.0
            feeds[f"{value.name}_row"] = np.float32(inside) * away_from_kinks(
                array, len(kept)
            ).reshape(1, -1)
        else:
            graph.initializer.append(numpy_helper.from_array(array, value.name))
    inputs = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in kept]
    del graph.input[:]
    graph.input.extend(inputs)
    wide = [v for v in graph.output if v.type.tensor_type.elem_type in FLOATS]
    shown = {v.name: np.asarray(a) for v, a in zip(graph.output, case.data_sets[0][1], strict=True)}
    outputs = [v for v in wide if is_score(shown[v.name])]
    copies = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in outputs]
    del graph.output[:]
    graph.output.extend(copies)
    retype(proto, "float32")
    return flat(proto), feeds


def is_score(array) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(np.float32)).all())


BOUNDED = ("acos", "asin", "atanh")
"""Defined between -1 and 1 only."""


def away_from_kinks(array, seed):
    """The standard's examples sit on kinks and ties: move each element a little."""
    noise = np.random.default_rng(seed).uniform(0.01, 0.09, array.shape)
    return (array + noise).astype(np.float32)


ALL = bool(os.environ.get("ONNXEXPLAIN_ALL_ORACLES"))
"""Whether the cases that spell an operator out in others run too: they take as long again."""


@pytest.mark.parametrize("name", [n for n in differentiable() if ALL or "_expanded" not in n])
def test_three_ways(name):
    three_ways(name, *model_of(cases()[name]))


def three_ways(name, proto, feeds):
    """Central difference in float64 = eager in float64 = both engines in float32; all conserve.

    Looked at are shares, derivatives times inputs, so the direction is the input times anything.
    """
    rng = np.random.default_rng(1)
    numeric = Numeric(proto, feeds, "scores", np.zeros(1))
    seed = rng.standard_normal(numeric.value().shape).astype(np.float32)
    numeric.seed = seed.astype(np.float64)
    # Large inputs are moved by no more than others: softmax of 10,000 bends within a step of 1.
    times = {n: rng.standard_normal(v.shape) / np.maximum(1, np.abs(v)) for n, v in feeds.items()}
    direction = {n: v * times[n] for n, v in feeds.items()}

    exact = ox.explain(proto, feeds, target=seed, engine="eager", dtype="float64")
    assert abs(exact.residual) <= 1e-12
    size = max(1.0, *(np.abs(v).max() for v in exact.attributions.values()))
    ours = sum((exact.attributions[n] * t).sum() for n, t in times.items())
    if "maxpool" in name:  # so many windows that some nearly tie: a tiny step, and its rounding
        assert ours == pytest.approx(numeric.along(direction, 1e-8), rel=1e-5, abs=1e-6 * size)
    else:
        assert ours == pytest.approx(numeric.along(direction), rel=1e-6, abs=1e-7 * size)

    for engine in ("eager", "compiled"):
        e = ox.explain(proto, feeds, target=seed, engine=engine)
        for tensor, value in exact.attributions.items():
            assert e.attributions[tensor].dtype == np.float32
            assert np.allclose(e.attributions[tensor], value, rtol=1e-4, atol=1e-5 * size), engine
        shared = sum(np.abs(v).sum() for v in e.attributions.values())
        shared += sum(np.abs(v).sum() for v in e.constants.values())
        gap = abs(e.residual[0]) * max(1, abs(e.score[0]))
        assert gap <= 1e-5 * max(1, abs(e.score[0])) + 1e-7 * shared, engine


# ----- Nothing left out -----


def test_every_operator_has_a_case():
    """Each registered operator with a derivative is in at least one case that is not skipped."""
    covered = {node.op_type for n in differentiable() for node in cases()[n].model.graph.node}
    owed = {op.op_type for op in operators() if op.role != "stop" and not op.domain}
    assert owed - covered - {"Cast"} == WITHOUT_A_CASE


WITHOUT_A_CASE = {"GlobalLpPool", "MaxRoiPool", "Trilu"}
"""Operators that the standard has no case of, or of integers only; see the random geometry and the
nets. Casts: see test_casts."""


@pytest.mark.parametrize("name", SKIPPED | ALONE)
def test_skips_name_real_cases(name):
    assert any(case.startswith(name) for case in cases())
    assert len(reason(name).split()) > 2


@pytest.mark.parametrize("to", ["FLOAT", "FLOAT16", "DOUBLE"])
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_casts(to, engine):
    """A cast between floats hands everything on; lowered, all floats are of one type."""
    kind = getattr(onnx.TensorProto, to)
    proto = net(f"(float[N,3] x) => (float[N,3] y) {{ c = Cast<to={kind}>(x) y = Cast<to=1>(c) }}")
    x = np.array([[1.5, -2.25, 0.5]], np.float32)
    e = ox.explain(proto, x, engine=engine, targets="all")
    assert np.array_equal(e.attributions["x"][:, 0], np.diag(x[0]))


def test_a_cast_to_integers_ends_the_way():
    proto = net(
        "(float[N,3] x) => (float[N,3] y) { c = Cast<to=7>(x) d = Cast<to=1>(c) y = Add(x, d) }"
    )
    x = np.array([[1.5, -2.25, 0.5]], np.float32)
    e = ox.explain(proto, x, target=0)
    assert e.attributions["x"].tolist() == [[1.5, 0, 0]]
    assert e.constant == pytest.approx([1.0])
    assert e.residual == pytest.approx([0.0], abs=1e-7)


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_modes_of_pad(mode, engine):
    """The standard's cases of these modes are of integers; here they are of floats."""
    case = cases()[f"test_{mode}_pad"]
    x, pads = (np.asarray(v) for v in case.data_sets[0][0])
    y = np.asarray(case.data_sets[0][1][0])
    shapes = [",".join(map(str, v.shape)) for v in (x, y)]
    proto = net(
        f'(float[{shapes[0]}] x) => (float[{shapes[1]}] y) {{ y = Pad<mode="{mode}">(x, pads) }}',
        opset=19,
        pads=pads,
    )
    seed = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    e = ox.explain(proto, x.astype(np.float32), "gradient", engine=engine, target=seed)
    assert np.array_equal(e.logits, y)
    spread = np.pad(np.arange(x.size).reshape(x.shape), _widths(pads), mode)
    back = np.bincount(spread.ravel(), seed.ravel().astype(np.float64)).reshape(x.shape)
    assert np.allclose(e.attributions["x"], back, atol=1e-6)


def _widths(pads):
    rank = len(pads) // 2
    return list(zip(pads[:rank].tolist(), pads[rank:].tolist(), strict=True))


# ----- Both ties, both engines -----


@pytest.mark.parametrize("name", [n for n in differentiable() if "maxpool" in n])
@pytest.mark.parametrize("ties", ["first", "share"])
def test_pools_with_ties(name, ties):
    """The case's own shape, full of ties: each shared out whole, compiled as eager."""
    proto, feeds = model_of(cases()[name])
    rng = np.random.default_rng(3)
    feeds = {n: rng.integers(-2, 2, v.shape).astype(np.float32) for n, v in feeds.items()}
    seed = rng.standard_normal(ox.explain(proto, feeds).logits.shape).astype(np.float32)
    found = []
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, feeds, engine=engine, target=seed, ties=ties)
        assert abs(e.residual) < 1e-5
        found.append(e.attributions)
    for tensor, value in found[0].items():
        assert np.allclose(found[1][tensor], value, atol=1e-5 * max(1, np.abs(value).max()))
