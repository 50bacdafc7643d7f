"""Random geometry: reductions, running sums and products, and Einstein's sums."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import onnxexplain as ox
from tests.builders import net
from tests.conformance.test_geometry import agree, text

few = settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
seeds = st.integers(0, 9)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)

SMOOTH = "ReduceProd ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp".split()
KINKED = "ReduceMax ReduceMin ReduceL1".split()


def reduced(operator, shape, axes, keep, noop, given_axes=True):
    """A model of one reduction over a (possibly empty) list of axes, or none at all."""
    kept = keep or (noop and not axes)
    rank = len(shape) if kept else len(shape) - (len(axes) or len(shape))
    says = f"keepdims={int(keep)}, noop_with_empty_axes={int(noop)}"
    out = f"float[{','.join('abcd'[:rank])}] y" if rank else "float y"
    held = {"axes": np.array(axes, np.int64)} if given_axes else {}
    names = ", ".join(["x", *held])
    return net(f"({text(shape)} x) => ({out}) {{ y = {operator}<{says}>({names}) }}", **held)


@st.composite
def forms(draw):
    """Draw a shape, axes counted from either end, and how the reduction is said."""
    shape = draw(shapes)
    axes = sorted(a for a in draw(st.sets(st.integers(0, 3))) if a < len(shape))
    axes = [a - len(shape) * (a % 2) for a in axes]
    return shape, axes, draw(st.booleans()), draw(st.booleans()), bool(axes) or draw(st.booleans())


@few
@given(forms(), st.sampled_from([*SMOOTH, *KINKED]), seeds)
def test_reductions(form, operator, seed):
    shape, *said = form
    rng = np.random.default_rng(seed)
    values = rng.permutation(math.prod(shape)).reshape(shape) / 7 + 0.1
    if operator != "ReduceLogSum":
        values = values * rng.choice([-1, 1], shape)
    agree(reduced(operator, shape, *said), {"x": values}, seed=seed)


@few
@given(
    forms(),
    st.sampled_from(["ReduceMax", "ReduceMin"]),
    st.sampled_from(["first", "share"]),
    seeds,
)
def test_ties(form, operator, ties, seed):
    """What is equal shares, or the first in row-major order gets all; compiled as eager."""
    shape, *said = form
    x = np.random.default_rng(seed).integers(-1, 2, shape)
    agree(reduced(operator, shape, *said), {"x": x}, ties=ties, smooth=False, seed=seed)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize(
    ("ties", "expected"),
    [
        ("first", [[[0, 2, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, -1]]]),
        ("share", [[[0, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, -1]]]),
    ],
)
def test_the_first_in_row_major_order(ties, expected, engine):
    """Also where the reduced axes are not neighbours and not in order."""
    proto = net(
        "(float[N,2,3] x) => (float[N,1] y) { m = ReduceMax<keepdims=0>(x, axes)  "
        "y = Unsqueeze(m, one) }",
        axes=[-1, 1],
        one=[1],
    )
    x = np.array([[[0, 2, 1], [1, 0, 2]], [[-3, -2, -3], [-4, -2, -1]]], np.float32)
    e = ox.explain(proto, x, engine=engine, ties=ties)
    assert e.attributions["x"].tolist() == expected


@few
@given(forms(), st.integers(1, 4), seeds)
def test_products_of_zeros(form, zeros, seed):
    """One zero alone has a slope; of several none has. Nothing is divided by them."""
    shape, *said = form
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 1.5, shape)
    values.reshape(-1)[rng.integers(0, values.size, zeros)] = 0
    agree(reduced("ReduceProd", shape, *said), {"x": values}, seed=seed)


# ----- Running -----


@few
@given(
    shapes,
    st.integers(-4, 3),
    st.sampled_from(["CumSum", "CumProd"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    seeds,
)
def test_running(shape, axis, operator, exclusive, reverse, zeros, seed):
    assume(-len(shape) <= axis < len(shape))
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 1.5, shape)
    values.reshape(-1)[rng.integers(0, values.size, zeros)] = 0
    says = f"exclusive={int(exclusive)}, reverse={int(reverse)}"
    out = ",".join("abcd"[: len(shape)])
    proto = net(
        f"({text(shape)} x) => (float[{out}] y) {{ y = {operator}<{says}>(x, axis) }}",
        opset=26,
        axis=np.int64(axis),
    )
    agree(proto, {"x": values}, seed=seed)


# ----- Einstein's sums -----

LENGTHS = {"i": 2, "j": 3, "k": 4}


@st.composite
def equations(draw):
    """Draw the letters of one to four operands, an ellipsis among them or not, and of the sum."""
    many = draw(st.integers(1, 4))
    most = 3 if many < 4 else 2
    terms = ["".join(draw(st.lists(st.sampled_from("ijk"), max_size=most))) for _ in range(many)]
    every = sorted(set("".join(terms)))
    kept = [letter for letter in draw(st.permutations(every)) if draw(st.booleans())]
    dots = draw(st.booleans())
    spread = [dots and draw(st.booleans()) for _ in terms]
    shapes = []
    for i, term in enumerate(terms):
        ahead = draw(st.sampled_from([(5, 2), (5, 1), (1, 2), (1, 1)])) if spread[i] else ()
        shapes.append((*ahead, *(LENGTHS[letter] for letter in term)))
        terms[i] = f"...{term}" if spread[i] else term
    implicit = draw(st.booleans())
    left = ",".join(terms)
    right = "..." * any(spread) + "".join(kept)
    return (left if implicit else f"{left}->{right}"), shapes


@settings(max_examples=80, suppress_health_check=[HealthCheck.filter_too_much])
@given(equations(), st.sets(st.integers(0, 3), min_size=1), seeds)
def test_einsum(drawn, varies, seed):
    equation, shapes = drawn
    rng = np.random.default_rng(seed)
    values = {f"p{i}": rng.standard_normal(shape) for i, shape in enumerate(shapes)}
    inputs = [n for i, n in enumerate(values) if i in varies]
    assume(inputs and equation.strip(",->"))
    rank = np.einsum(equation, *values.values()).ndim
    held = {n: np.float32(v) for n, v in values.items() if n not in inputs}
    signature = ", ".join(
        f"{text(values[n].shape) if values[n].ndim else 'float'} {n}" for n in inputs
    )
    out = f"float[{','.join('abcdefgh'[:rank])}] y" if rank else "float y"
    node = f'Einsum<equation="{equation}">({", ".join(values)})'
    proto = net(f"({signature}) => ({out}) {{ y = {node} }}", **held)
    agree(proto, {n: values[n] for n in inputs}, seed=seed)
