"""Random geometry: normalisations of every axis, their parameters constant or not."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onnxexplain as ox
from onnxexplain.ops import HELD, find
from onnxexplain.tensor import Arrays
from tests.builders import net
from tests.conformance.test_geometry import agree, attributes, text

few = settings(max_examples=30)
seeds = st.integers(0, 9)


def one_node(operator, values, inputs, said="", opset=18):
    """A model of one node, of whose operands only ``inputs`` vary."""
    held = {n: np.float32(v) for n, v in values.items() if n not in inputs}
    signature = ", ".join(f"{text(values[n].shape)} {n}" for n in inputs)
    out = ",".join("abcdef"[: values["x"].ndim])
    node = f"{operator}<{said}>" if said else operator
    body = f"({signature}) => (float[{out}] y) {{ y = {node}({', '.join(values)}) }}"
    return net(body, opset=opset, **held), {n: values[n] for n in inputs}


def check(operator, values, varies, said="", opset=18, seed=0):
    inputs = [n for n in values if n in varies] or ["x"]
    agree(*one_node(operator, values, inputs, said, opset), seed=seed)


operands = st.sets(st.sampled_from(["x", "s", "b"]), min_size=1)


@few
@given(
    st.sampled_from(["LayerNormalization", "RMSNormalization"]),
    st.lists(st.integers(2, 4), min_size=1, max_size=4),
    st.integers(0, 7),
    st.booleans(),
    operands,
    seeds,
)
def test_layers(operator, shape, axis, bias, varies, seed):
    rng = np.random.default_rng(seed)
    axis %= len(shape)
    values = {"x": rng.standard_normal(shape), "s": rng.standard_normal(shape[axis:])}
    if bias and operator == "LayerNormalization":
        values["b"] = rng.standard_normal(shape[axis:])
    axis -= len(shape) * (seed % 2)
    check(operator, values, varies, f"axis={axis}, epsilon=0.01", 23, seed)


@few
@given(st.lists(st.integers(2, 4), min_size=2, max_size=4), st.sets(st.integers(0, 2)), seeds)
def test_the_statistics_of_a_layer(shape, read, seed):
    """Mean and one over the deviation are outputs of their own, and may be all that is read."""
    rng = np.random.default_rng(seed)
    names = [n for i, n in enumerate(("n", "m", "i")) if i in read] or ["m"]
    flat = "  ".join(f"{n}_row = Flatten<axis=0>({n})" for n in names)
    rows = ", ".join(f"{n}_row" for n in names)
    proto = net(
        f"""({text(shape)} x) => (float[a,b] y) {{ n, m, i = LayerNormalization<axis=1>(x, s)
        {flat}  y = Concat<axis=1>({rows}) }}""",
        s=rng.standard_normal(shape[1:]).astype(np.float32),
    )
    agree(proto, {"x": rng.standard_normal(shape)}, seed=seed)


@few
@given(st.lists(st.integers(2, 4), min_size=3, max_size=5), operands, seeds)
def test_instances(shape, varies, seed):
    rng = np.random.default_rng(seed)
    values = {"x": rng.standard_normal(shape)}
    values |= {n: rng.standard_normal(shape[1]) for n in "sb"}
    check("InstanceNormalization", values, varies, seed=seed)


@few
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.integers(1, 4), min_size=1, max_size=2),
    st.sampled_from([18, 21]),
    operands,
    seeds,
)
def test_groups(groups, each, spatial, opset, varies, seed):
    """Opset 18 has a parameter per group, opset 21 one per channel."""
    rng = np.random.default_rng(seed)
    values = {"x": rng.standard_normal((2, groups * each, *spatial))}
    many = groups if opset == 18 else groups * each
    values |= {n: rng.standard_normal(many) for n in "sb"}
    said = f"num_groups={groups}, epsilon=0.1"
    check("GroupNormalization", values, varies, said, opset, seed)


@few
@given(
    st.lists(st.integers(2, 4), min_size=2, max_size=4),
    st.sets(st.sampled_from(["x", "s", "b", "m", "v"]), min_size=1),
    seeds,
)
def test_batches(shape, varies, seed):
    """A normalisation of the batch by what was learnt, or computed elsewhere in the model."""
    rng = np.random.default_rng(seed)
    values = {"x": rng.standard_normal(shape)}
    values |= {n: rng.standard_normal(shape[1]) for n in "sbm"}
    values["v"] = rng.uniform(0.5, 2, shape[1])
    check("BatchNormalization", values, varies, seed=seed)


@few
@given(
    st.lists(st.integers(3, 4), min_size=4, max_size=4),  # of two, the slope is 0 over nearly 0
    st.sets(st.integers(0, 3), min_size=1),
    seeds,
)
def test_mean_and_variance(shape, axes, seed):
    values = {"x": np.random.default_rng(seed).standard_normal(shape)}
    check("MeanVarianceNormalization", values, {"x"}, attributes(axes=sorted(axes)), 13, seed)


@few
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(-4, 3),
    st.sampled_from([1, 2]),
    seeds,
)
def test_lengths(shape, axis, p, seed):
    axis = axis % len(shape) - len(shape) * (seed % 2)
    values = {"x": np.random.default_rng(seed).standard_normal(shape)}
    check("LpNormalization", values, {"x"}, f"axis={axis}, p={p}", seed=seed)


@settings(max_examples=30, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.integers(1, 7), st.sampled_from([1, 3, 5, 7]), st.floats(0.1, 2), seeds)
def test_channels_around(channels, size, beta, seed):
    values = {"x": np.random.default_rng(seed).standard_normal((2, channels, 3, 2))}
    said = f"size={size}, alpha=0.7, beta={beta:.3f}, bias=1.25"
    check("LRN", values, {"x"}, said, seed=seed)


# ----- Edges -----


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("node", ["LpNormalization<p=2>", "LpNormalization<p=1>"])
def test_of_nothing_everything_is_constant(node, engine):
    """Where there is no length, there is no slope."""
    proto = net(f"(float[N,4] x) => (float[N,4] y) {{ y = {node}(x) }}")
    e = ox.explain(proto, np.zeros((2, 4), np.float32), engine=engine, targets="all")
    assert not e.attributions["x"].any()
    assert not e.residual.any()


@pytest.mark.parametrize("domain", ["", HELD])
def test_without_variance(domain):
    """ONNX Runtime divides by nothing here; the standard gives zeros, which have no slope."""
    x, zeros = np.full((1, 2, 2), 3.0), np.zeros((1, 2, 2))
    found = find(domain, "MeanVarianceNormalization")
    (to_x,) = found.back(Arrays(np), zeros + 1, zeros, x, axes=[1, 2])
    assert not to_x.any()
    assert not found.offset(Arrays(np), zeros, x, varies=(True,), axes=[1, 2]).any()


def test_statistics_of_the_whole_batch_are_named():
    proto = net(
        """(float[N,3,2,2] x) => (float[N,3,2,2] y) {
        y, m, v = BatchNormalization<training_mode=1>(x, s, s, s, s) }""",
        s=np.ones(3, np.float32),
    )
    said = "BatchNormalization.*training_mode=1.*whole batch.*node `BatchNormalization_0`"
    with pytest.raises(ox.UnsupportedOperator, match=said):
        ox.explain(proto, np.ones((2, 3, 2, 2), np.float32), target=0)
