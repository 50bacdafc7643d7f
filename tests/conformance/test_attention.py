"""Attention: lowered it computes what the standard says, and a mask leaves no NaN behind."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onnxexplain as ox
from onnxexplain.graph import lower
from onnxexplain.graph.floats import retype
from onnxexplain.ops import role_of
from onnxexplain.runtime import newest, run_once
from tests.builders import net
from tests.conformance.test_geometry import agree, text
from tests.conformance.test_node_cases import FLOATS, cases, kinds

both_engines = pytest.mark.parametrize("engine", ["eager", "compiled"])
SPELLED = {"Attention", "FlexAttention", "LinearAttention", "CausalConvWithState"}


def spelled_cases():
    """Return the names of the cases of operators that are spelled out."""
    nodes = {name: case.model.graph.node for name, case in cases().items()}
    return [name for name, own in nodes.items() if SPELLED & {node.op_type for node in own}]


@pytest.mark.parametrize("name", spelled_cases())
def test_lowered_attention(name):
    """Every output of every case, masks given while it runs; in float32 whatever the case says."""
    case = cases()[name]
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    exact = kinds(proto.graph.input) & FLOATS <= {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
    retype(proto, "float32")
    given, expected = ([np.asarray(v) for v in part] for part in case.data_sets[0])
    feeds = {
        value.name: v.astype(np.float32) if value.type.tensor_type.elem_type == 1 else v
        for value, v in zip(proto.graph.input, given, strict=True)
    }
    sizes = {n: v.shape for n, v in feeds.items()}
    lowered = lower(proto, sizes, run_once, "float32", newest(), role_of)
    assert not SPELLED & {node.op_type for node in lowered.nodes}
    found = run_once(lowered.proto, feeds, [v.name for v in proto.graph.output])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        near = 1e-5 if exact else 3e-2
        assert np.allclose(ours, theirs.astype(np.float32), rtol=near, atol=near)


# ----- Random geometry -----


@st.composite
def attentions(draw):
    """Draw the shapes of an attention, its attributes and its mask."""
    shared, each = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2)]))
    sizes = {n: draw(st.integers(1, 4)) for n in ("batch", "queries", "keys", "size", "value")}
    past = draw(st.integers(0, 2))
    flat = draw(st.booleans())
    said = {"is_causal": draw(st.integers(0, 1))}
    if flat:
        said |= {"q_num_heads": shared * each, "kv_num_heads": shared}
    for window in ("left_window_size", "right_window_size"):
        said[window] = draw(st.sampled_from([-1, -1, 0, 1, 2]))
    if draw(st.booleans()):
        said["softcap"] = 1.5
    if draw(st.booleans()):
        said["scale"] = 0.3
    mask = draw(st.sampled_from(["", "truth", "numbers", "infinite", "input", "computed"]))
    filled = not past and draw(st.booleans())
    return shared, each, sizes, past, flat, said, mask, filled


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(attentions(), st.integers(0, 9))
def test_attention(drawn, seed):
    shared, each, sizes, past, flat, said, mask, filled = drawn
    rng = np.random.default_rng(seed)
    values, held, before = {}, {}, ""
    for name, many, length, size in (
        ("q", shared * each, sizes["queries"], sizes["size"]),
        ("k", shared, sizes["keys"], sizes["size"]),
        ("v", shared, sizes["keys"], sizes["value"]),
    ):
        shape = (length, many * size) if flat else (many, length, size)
        values[name] = rng.standard_normal((sizes["batch"], *shape))
    every = past + sizes["keys"]
    pairs = (sizes["batch"], 1, sizes["queries"], every)
    operands = [*values, "", "", "", ""]
    if mask:
        operands[3] = "mask"
    if mask == "truth":
        held["mask"] = rng.random(pairs) < 0.6
    elif mask in ("numbers", "infinite"):
        held["mask"] = rng.standard_normal(pairs).astype(np.float32)
        held["mask"][rng.random(pairs) < (mask == "infinite") * 0.4] = -np.inf
    elif mask == "input":
        values["mask"] = rng.standard_normal(pairs)
    elif mask == "computed":
        values["m"], before = rng.standard_normal(pairs), "mask = Greater(m, zero)"
        held["zero"] = 0.0
    if past:
        operands[4:6] = "pk", "pv"
        for name, size in (("pk", sizes["size"]), ("pv", sizes["value"])):
            values[name] = rng.standard_normal((sizes["batch"], shared, past, size))
    elif filled:
        operands[6] = "filled"
        held["filled"] = rng.integers(0, sizes["keys"] + 1, sizes["batch"])
    while not operands[-1]:
        operands.pop()
    signature = ", ".join(f"{text(v.shape)} {n}" for n, v in values.items())
    says = ", ".join(f"{n}={v}" for n, v in said.items())
    out = "a,b,c" if flat else "a,b,c,d"
    proto = net(
        f"""({signature}) => (float[{out}] y) {{ {before}
        y = Attention<{says}>({", ".join(operands)}) }}""",
        opset=25,
        **held,
    )
    agree(proto, values, seed=seed)


# ----- Masks in a model's own words -----

MASKED = np.array([[0, -np.inf, 0, 0], [0, 0, -np.inf, -np.inf], [-np.inf] * 4], np.float32)
ROWS = np.isinf(MASKED).all(1, keepdims=True)


@both_engines
@pytest.mark.parametrize(
    ("node", "hidden"),
    [
        ("Softmax<axis=-1>(m)", ROWS),
        ("Softmax<axis=1>(m)", np.zeros_like(ROWS)),
        ("LogSoftmax<axis=2>(m)", np.isinf(MASKED)),
        ("ReduceLogSumExp<keepdims=1>(m, last)", ROWS),
    ],
)
def test_masks_leave_no_nan(node, hidden, engine):
    """Scores of minus infinity, a whole row of them among others, of which nothing is read."""
    proto = net(
        f"""(float[N,3,4] x) => (float[N,3] y) {{ m = Add(x, mask)  s = {node}
        t = Where(hidden, zero, s)  u = Mul(t, x)  y = ReduceSum<keepdims=0>(u, last) }}""",
        mask=MASKED,
        hidden=hidden,
        zero=0.0,
        last=[-1],
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    e = ox.explain(proto, x, engine=engine, targets="all", layers="all")
    assert np.isfinite(e.attributions["x"]).all()
    assert np.isfinite(e.constant).all()
    assert np.abs(e.residual).max() < 1e-5
    for layer in e.layers.values():
        assert np.isfinite(layer.score).all()
    numeric = ox.explain(proto, x, "gradient", target=0, engine=engine).attributions["x"]
    nudge = np.float32(1e-2) * np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    ahead, behind = (ox.explain(proto, x + d, target=0).score for d in (nudge, -nudge))
    assert (numeric * nudge).sum((1, 2)) == pytest.approx((ahead - behind) / 2, abs=1e-4)


@both_engines
def test_a_query_with_nothing_to_attend_to(engine):
    """It gets zeros, and nothing is sent back through it."""
    proto = net(
        """(float[N,1,3,4] q, float[N,1,3,4] k, float[N,1,3,4] v) => (float[N,1,3,4] y) {
        y = Attention(q, k, v, mask) }""",
        opset=23,
        mask=~np.isinf(MASKED[:, 1:]) & (np.arange(3) < 2)[:, None],
    )
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal((2, 1, 3, 4)).astype(np.float32) for n in "qkv"}
    seed = rng.standard_normal((2, 1, 3, 4)).astype(np.float32)
    e = ox.explain(proto, feeds, engine=engine, target=seed)
    assert not e.logits[:, :, 2].any()
    assert not e.attributions["q"][:, :, 2].any()
    assert e.attributions["q"][:, :, 0].any()
    assert np.abs(e.residual).max() < 1e-5
