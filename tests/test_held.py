"""Score propagation with statistics or gates held fixed: it conserves all the same."""

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.ops import HELD, find, operators
from tests.builders import convolutional, net, weights
from tests.nets import NETS, data

both_engines = pytest.mark.parametrize("engine", ["eager", "compiled"])
OPTIONS = [{"product": "gate"}, {"norm": "detached"}, {"product": "gate", "norm": "detached"}]
HOLDING = [
    name
    for name, proto in NETS.items()
    if any(find(HELD, node.op_type) and node.op_type != "Gemm" for node in proto.graph.node)
]


def test_what_can_be_held():
    """Every normalisation by statistics of its own, and every product."""
    held = {op.op_type for op in operators() if op.domain == HELD}
    own = {op.op_type for op in operators() if op.role == "normalisation" and not op.domain}
    assert held == own - {"BatchNormalization"} | {"Mul", "MatMul", "Gemm", "Einsum"}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", HOLDING)
def test_conserves(name, options):
    proto = NETS[name]
    feeds = data(proto, 2)
    exact = ox.explain(proto, feeds, engine="eager", dtype="float64", targets="all", **options)
    assert np.abs(exact.residual).max() <= 1e-12
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, feeds, engine=engine, targets="all", layers="all", **options)
        assert np.abs(e.residual).max() < 1e-5
        for tensor, value in exact.attributions.items():
            near = 1e-5 * max(1, np.abs(value).max())
            assert np.allclose(e.attributions[tensor], value, atol=near), engine


# ----- Statistics -----

X = np.random.default_rng(3).standard_normal((1, 6, 5, 4)).astype(np.float32) + 1
AFFINE = weights(3, s=(6,), t=(6,), v=(6, 4))
TAIL = "r = Relu(n)  g = ReduceMean<keepdims=0>(r, axes)  y = MatMul(g, v) }"


@both_engines
@pytest.mark.parametrize(
    ("node", "opset", "axes"),
    [
        ("InstanceNormalization<epsilon=0.1>", 18, (2, 3)),
        ("GroupNormalization<epsilon=0.1, num_groups=2>", 21, None),
    ],
)
def test_detached_is_a_normalisation_by_constants(node, opset, axes, engine):
    """With the statistics as constants it is a BatchNormalization that has learnt them."""
    grouped = X.reshape(1, 2, -1) if axes is None else X
    over = 2 if axes is None else axes
    mean, variance = (getattr(grouped, f)(axis=over).reshape(-1) for f in ("mean", "var"))
    many = X.shape[1] // len(mean)
    learnt = {"m": np.repeat(mean, many), "u": np.repeat(variance, many)}
    own = net(
        f"(float[N,6,5,4] x) => (float[N,4] y) {{ n = {node}(x, s, t)  {TAIL}",
        opset=opset,
        axes=[2, 3],
        **AFFINE,
    )
    fixed = net(
        f"""(float[N,6,5,4] x) => (float[N,4] y) {{
        n = BatchNormalization<epsilon=0.1>(x, s, t, m, u)  {TAIL}""",
        axes=[2, 3],
        **AFFINE,
        **learnt,
    )
    ours = ox.explain(own, X, engine=engine, norm="detached", targets="all")
    theirs = ox.explain(fixed, X, engine=engine, targets="all")
    assert np.allclose(ours.attributions["x"], theirs.attributions["x"], atol=1e-6)
    assert np.allclose(ours.constants["n"], theirs.constants["n"], atol=1e-5)
    exact = ox.explain(own, X, engine=engine, targets="all")
    assert not np.allclose(ours.constants["n"], exact.constants["n"], atol=1e-2)


@both_engines
def test_a_length_held_leaves_no_constant(engine):
    proto = net("(float[N,5] x) => (float[N,5] y) { y = LpNormalization(x) }")
    x = X.reshape(-1, 5)
    exact, held = (
        ox.explain(proto, x, engine=engine, targets="all", norm=n) for n in ("exact", "detached")
    )
    assert exact.constant == pytest.approx(exact.score, abs=1e-6)
    assert not held.constant.any()
    assert np.allclose(held.attributions["x"].sum(-1), held.score, atol=1e-6)


# ----- Gates -----


def gated(first, second, middle="", **held):
    return convolutional(
        f"l = Conv<pads=[1,1,1,1]>(h, w2)  {middle}  a = Mul({first}, {second})",
        **weights(5, w2=(6, 6, 3, 3)),
        **held,
    )


GATES = {
    "sigmoid second": gated("l", "e", "e = Sigmoid(h)"),
    "sigmoid first": gated("e", "l", "e = Sigmoid(h)"),
    "moved": gated("e", "l", "q = Sigmoid(h)  e = Transpose<perm=[0,1,3,2]>(q)"),
    "smaller first": gated("e", "l", "e = GlobalMaxPool(h)"),
    "activation first": gated("e", "l", "e = Softplus(h)"),
    "the second, else": gated("l", "e", "e = Neg(h)"),
}


@both_engines
@pytest.mark.parametrize("name", GATES)
def test_one_factor_is_weighed(name, engine):
    """It gets the product's whole score, the gate none; no constant is left."""
    proto = GATES[name]
    x = data(proto, 1)
    e = ox.explain(proto, x, engine=engine, target=1, layers="all", product="gate")
    product, weighed, gate = (e.layers[t].score for t in "ale")
    assert np.allclose(weighed, product, atol=1e-6)
    assert not gate.any()
    assert "a" not in e.constants
    shared = ox.explain(proto, x, engine=engine, target=1)
    assert shared.constants["a"] == pytest.approx(-product.sum(), abs=1e-5)


@both_engines
def test_attention_goes_to_the_values(engine):
    """Queries and keys decide where to look, and get nothing."""
    proto = net(
        """(float[N,3,4] q, float[N,3,4] k, float[N,3,4] v) => (float[N,12] y) {
        t = Transpose<perm=[0,2,1]>(k)  s = MatMul(q, t)  p = Softmax(s)  a = MatMul(p, v)
        y = Flatten(a) }"""
    )
    e = ox.explain(proto, data(proto, 2), engine=engine, targets="all", product="gate")
    assert not e.attributions["q"].any()
    assert not e.attributions["k"].any()
    assert np.allclose(e.attributions["v"].sum((2, 3)), e.score, atol=1e-6)
    assert not e.constant.any()


@pytest.mark.parametrize("option", ["product", "norm"])
def test_other_readings_are_refused(option):
    with pytest.raises(ox.MethodError, match=f"{option} is `half`; it must be one of"):
        ox.explain(NETS["square"], data(NETS["square"], 1), **{option: "half"})
