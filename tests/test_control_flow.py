"""Branches, loops, scans, sequences and optionals: explained along the way that the data take."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import onnxexplain as ox
from onnxexplain.graph import lower
from onnxexplain.graph.spelled import spelled
from onnxexplain.ops import role_of
from onnxexplain.runtime import newest, run_once
from tests.builders import Numeric, flat, net, weights
from tests.conformance.test_geometry import agree
from tests.conformance.test_node_cases import cases

both_engines = pytest.mark.parametrize("engine", ["eager", "compiled"])
HEAD = weights(13, w=(6, 4), b=(4,), k=(4, 4), d=(4,))


def explained(proto, feeds, rel=1e-5, seed=0):
    """Explain every way there is; all agree with the runtime and with central differences."""
    rng = np.random.default_rng(seed)
    output = proto.graph.output[0].name
    own = onnxruntime.InferenceSession(proto.SerializeToString()).run([output], feeds)[0]
    target = rng.standard_normal(own.shape).astype(np.float32)
    exact = ox.explain(proto, feeds, "gradient", target=target, engine="eager", dtype="float64")
    assert np.allclose(exact.logits, own, atol=1e-5)
    direction = {n: rng.standard_normal(v.shape) for n, v in exact.attributions.items()}
    ours = sum((exact.attributions[n] * d).sum() for n, d in direction.items())
    numeric = Numeric(proto, feeds, output, target)
    assert ours == pytest.approx(numeric.along(direction), rel=rel, abs=1e-6)
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, feeds, "gradient", target=target, engine=engine)
        for name, value in exact.attributions.items():
            size = max(1.0, np.abs(value).max())
            assert np.allclose(e.attributions[name], value, atol=1e-5 * size), engine
        shares = ox.explain(proto, feeds, target=target, engine=engine)
        assert np.abs(shares.residual).max() < 1e-5
    return exact


def lowered(proto, feeds, decided=None):
    sizes = {n: v.shape for n, v in feeds.items()}
    return lower(proto, sizes, run_once, "float32", newest(), role_of, decided)


def row(width, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((1, width)).astype(np.float32)


# ----- If -----


def test_a_branch_that_cannot_be_taken():
    """The exporter's squeeze: the branch that would fail is never looked at."""
    proto = net(
        """(float[N,M] x) => (float[N,M] y) { s = Shape(x)  n = Gather(s, one)  c = Equal(n, one)
        y = If<then_branch = g () => (float[K] a) { a = Squeeze(x, one) },
               else_branch = g () => (float[K,M] e) { e = Relu(x) }>(c) }""",
        one=[1],
    )
    e = explained(proto, {"x": row(6)})
    assert list(e.constants) == []
    nodes = lowered(proto, {"x": row(6)}).nodes
    assert [n.op_type for n in nodes] == ["Relu"]
    assert nodes[0].outputs == ("y",)


FORK = """(float[N,6] x) => (float[N,4] y) { h = Gemm(x, w, b)
    s = ReduceSum<keepdims=0>(h)  c = Greater(s, none)
    y = If<then_branch = g () => (float[N,4] a) { t = Tanh(h)  a = Mul(t, b) },
           else_branch = g () => (float[N,4] e)
           { l = Log(h)  q = Div(l, none)  e = Mul(q, h) }>(c) }
"""


def test_a_branch_not_taken_brings_nothing():
    """Not even where it divides by zero and takes the logarithm of less than nothing."""
    proto = net(FORK, none=0.0, **HEAD)
    rows = (row(6, i) for i in range(9))
    x = next(x for x in rows if (x @ HEAD["w"] + HEAD["b"]).sum() > 0)
    t = np.tanh(x @ HEAD["w"] + HEAD["b"])
    exact = HEAD["w"] @ (HEAD["b"] * (1 - t * t))[0]
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, x, "gradient", engine=engine, target="sum")
        assert e.attributions["x"][0] == pytest.approx(exact, abs=1e-6)


@both_engines
def test_every_sample_takes_its_own_branch(engine):
    body = FORK.replace("l = Log(h)  q = Div(l, none)  e = Mul(q, h)", "e = Sigmoid(h)")
    proto = net(body, none=0.0, **HEAD)
    x = np.concatenate([row(6, i) for i in range(6)])
    explainer = ox.Explainer(proto, engine=engine, target=1)
    e = explainer(x)
    alone = [ox.explain(proto, x[i : i + 1], engine=engine, target=1) for i in range(6)]
    branches = (x @ HEAD["w"] + HEAD["b"]).sum(axis=1) > 0
    assert len(set(branches)) == 2
    assert np.array_equal(e.score, np.concatenate([a.score for a in alone]))
    theirs = np.concatenate([a.attributions["x"] for a in alone])
    assert np.allclose(e.attributions["x"], theirs, atol=1e-6)
    assert np.abs(e.residual).max() < 1e-6


def test_branches_of_different_shapes():
    proto = net(
        """(float[N,6] x) => (float[P,4] y) { h = Gemm(x, w, b)  s = ReduceSum<keepdims=0>(h)
        c = Greater(s, none)
        q = If<then_branch = g () => (float[A,4] a) { t = Tanh(h)  a = Concat<axis=0>(t, k) },
               else_branch = g () => (float[B,4] e) { e = Sigmoid(h) }>(c)
        y = ReduceSum<keepdims=1>(q, zero) }""",
        none=0.0,
        zero=[0],
        **HEAD,
    )
    for seed in range(4):
        explained(proto, {"x": row(6, seed)})


def test_joined_where_there_is_no_data():
    """Without data both branches are computed, and the taken one is chosen."""
    body = FORK.replace("l = Log(h)  q = Div(l, none)  e = Mul(q, h)", "e = Sigmoid(h)")
    proto = net(body, none=0.0, **HEAD)
    both = lowered(proto, {"x": row(6)})
    assert {"Where", "Tanh", "Sigmoid"} <= {n.op_type for n in both.nodes}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    for seed in range(4):
        x = row(6, seed)
        ours = run_once(both.proto, {"x": x}, ["y"])[0]
        assert np.allclose(ours, session.run(["y"], {"x": x})[0], atol=1e-6)
    waiting = lowered(proto, {"x": row(6)}, decided={})
    assert waiting.undecided == ("If_3",)
    taken = lowered(proto, {"x": row(6)}, decided={"If_3": True})
    assert "Sigmoid" not in {n.op_type for n in taken.nodes}


def test_an_if_inside_an_if():
    proto = net(
        """(float[N,6] x) => (float[N,4] y) { h = Gemm(x, w, b)  s = ReduceSum<keepdims=0>(h)
        c = Greater(s, none)
        y = If<then_branch = g () => (float[N,4] a) { m = ReduceMax<keepdims=0>(h)
                 i = Less(m, one)
                 a = If<then_branch = g () => (float[N,4] p) { p = Tanh(h) },
                        else_branch = g () => (float[N,4] q)
                        { u = Sigmoid(h)  q = Mul(u, h) }>(i) },
               else_branch = g () => (float[N,4] e) { e = Softplus(h) }>(c) }""",
        none=0.0,
        one=1.0,
        **HEAD,
    )
    kinds = set()
    for seed in range(16):
        e = explained(proto, {"x": row(6, seed)})
        h = row(6, seed) @ HEAD["w"] + HEAD["b"]
        kinds.add((bool(h.sum() > 0), bool(h.max() < 1)))
        assert set(e.constants) <= {"h", "y"}
    assert len(kinds) >= 3


# ----- Loop -----


def looped(body, inputs="(n, yes, h)", outputs="y", after="", **held):
    """A model with a loop behind a linear layer."""
    return net(
        f"""(float[N,6] x) => (float[N,4] y) {{ h = Gemm(x, w, b)
        {outputs} = Loop<body = {body}>{inputs}  {after} }}""",
        yes=np.array(True),
        **HEAD,
        **held,
    )


STEP = """step (int64 i, bool on, float[N,4] s) => (bool more, float[N,4] u)
    { more = Identity(on)  m = MatMul(s, k)  t = Tanh(m)  f = Cast<to=1>(i)  g = Add(f, one)
      q = Div(t, g)  u = Add(q, s) }"""


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_a_number_of_steps(steps):
    """The number of the step is a constant of each."""
    proto = looped(STEP, n=np.array(steps), one=1.0)
    explained(proto, {"x": row(6)})
    nodes = lowered(proto, {"x": row(6)}).nodes
    assert sum(n.op_type == "Tanh" for n in nodes) == steps
    assert not any(n.op_type in ("Loop", "Cast") for n in nodes)


def test_a_condition_that_counts():
    """The condition is followed from step to step: 2, 4, 8, 16 doublings of a constant."""
    body = """step (int64 i, bool on, float[N,4] s, int64 j)
        => (bool more, float[N,4] u, int64 l, float[N,4] r)
        { l = Mul(j, two)  more = Less(l, limit)  m = MatMul(s, k)  u = Sigmoid(m)
          r = Mul(u, u) }"""
    proto = looped(
        body,
        inputs="(, yes, h, two)",
        outputs="last, count, rows",
        after="a = ReduceSum<keepdims=0>(rows, zero)  y = Add(a, last)",
        two=np.array(2),
        limit=np.array(20),
        zero=[0],
    )
    explained(proto, {"x": row(6)})
    nodes = lowered(proto, {"x": row(6)}).nodes
    assert sum(n.op_type == "Sigmoid" for n in nodes) == 4


def test_a_condition_on_a_shape():
    """How large a captured tensor is is no matter of the data."""
    body = """step (int64 i, bool on, float[N,4] s) => (bool more, float[N,4] u)
        { z = Shape(x)  n = Gather(z, one)  j = Add(i, one)  more = Less(j, n)
          m = MatMul(s, k)  u = Tanh(m) }"""
    proto = looped(body, inputs="(, yes, h)", one=np.array(1))
    explained(proto, {"x": row(6)})
    assert sum(n.op_type == "Tanh" for n in lowered(proto, {"x": row(6)}).nodes) == 6


@both_engines
def test_as_many_steps_as_the_data_say(engine):
    """Doubled until it is large: every sample its own number of times."""
    proto = net(
        """(float[N,3] x) => (float[N,3] y) { a = Abs(x)  t = ReduceSum<keepdims=0>(a)
        c = Less(t, ten)
        y = Loop<body = step (int64 i, bool on, float[N,3] s) => (bool more, float[N,3] u)
            { u = Mul(s, two)  v = Abs(u)  r = ReduceSum<keepdims=0>(v)  more = Less(r, ten) }>
            (, c, x) }""",
        ten=10.0,
        two=2.0,
    )
    x = np.array([[1, 2, 3], [0.1, 0.2, 0.3], [11, 1, 0]], np.float32)
    e = ox.explain(proto, x, "gradient", target=0, engine=engine)
    assert e.attributions["x"].tolist() == [[2, 0, 0], [32, 0, 0], [1, 0, 0]]
    assert e.logits[:, 0] == pytest.approx([2, 3.2, 11])


def test_a_number_of_steps_that_is_an_input():
    proto = net(
        f"""(float[N,6] x, int64 n) => (float[N,4] y) {{ h = Gemm(x, w, b)
        y = Loop<body = {STEP}>(n, yes, h) }}""",
        yes=np.array(True),
        one=1.0,
        **HEAD,
    )
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    explainer = ox.Explainer(proto, target=2)
    for steps in (3, 0, 3, 1):
        feeds = {"x": row(6), "n": np.array(steps)}
        e = explainer(feeds)
        assert e.logits == pytest.approx(session.run(["y"], feeds)[0], abs=1e-6)
        assert abs(e.residual[0]) < 1e-6


def test_loops_inside_loops():
    """The inner loop runs as often as the outer one has run; its weights are held once."""
    body = """step (int64 i, bool on, float[N,4] s) => (bool more, float[N,4] u)
        { more = Identity(on)
          u = Loop<body = inner (int64 j, bool go, float[N,4] a) => (bool still, float[N,4] c)
            { still = Identity(go)  m = MatMul(a, k)  e = Add(m, s)  c = Tanh(e) }>(i, on, s) }"""
    proto = looped(body, n=np.array(4))
    explained(proto, {"x": row(6)})
    low = lowered(proto, {"x": row(6)})
    assert sum(n.op_type == "Tanh" for n in low.nodes) == 0 + 1 + 2 + 3
    assert sum(v.size == 16 for v in low.constants.values()) == 1
    e = ox.explain(proto, {"x": row(6)}, target=0)
    assert set(e.constants) <= {"h", "y"}


def test_a_branch_inside_a_loop_that_the_data_decide():
    body = """step (int64 i, bool on, float[N,4] s) => (bool more, float[N,4] u)
        { more = Identity(on)  r = ReduceSum<keepdims=0>(s)  c = Greater(r, none)
          u = If<then_branch = g () => (float[N,4] a) { m = MatMul(s, k)  a = Tanh(m) },
                 else_branch = g () => (float[N,4] e) { e = Exp(s) }>(c) }"""
    proto = looped(body, n=np.array(3), none=0.0)
    for seed in range(3):
        explained(proto, {"x": row(6, seed)})


def test_what_does_not_change_is_computed_once():
    body = """step (int64 i, bool on, float[N,4] s) => (bool more, float[N,4] u)
        { more = Identity(on)  p = MatMul(h, k)  q = Exp(p)  m = Mul(s, q)  u = Tanh(m) }"""
    proto = looped(body, n=np.array(4))
    explained(proto, {"x": row(6)})
    kinds = [n.op_type for n in lowered(proto, {"x": row(6)}).nodes]
    assert (kinds.count("Exp"), kinds.count("Tanh")) == (1, 4)


def test_weights_dropout_and_old_operators_inside_a_body():
    """A body of opset 11, with weights of its own, float16 among them."""
    body = """step (int64 i, bool on, float[N,4] s) => (bool more, float[N,4] u)
        { more = Identity(on)  t = ReduceSum<axes=[1]>(s)  q = Squeeze<axes=[1]>(t)
          e = Unsqueeze<axes=[1]>(q)  z = Dropout(e)  g = Cast<to=10>(z)  j = Cast<to=1>(g)
          m = Mul(j, inside)  o = Tanh(m)  u = Add(o, s) }"""
    proto = net(
        f"""(float[N,6] x) => (float[N,4] y) {{ h = Gemm(x, w, b)
        y = Loop<body = {body}>(n, yes, h) }}""",
        opset=11,
        yes=np.array(True),
        n=np.array(2),
        **HEAD,
    )
    graph = proto.graph.node[1].attribute[0].g
    held = np.linspace(-1, 1, 4, dtype=np.float32)
    graph.initializer.append(numpy_helper.from_array(held, "inside"))
    x = row(6)
    own = onnxruntime.InferenceSession(proto.SerializeToString()).run(["y"], {"x": x})[0]
    e = ox.explain(proto, x, target=1)
    assert e.logits == pytest.approx(own, abs=2e-3)  # the file rounds to float16 on its way
    assert abs(e.residual[0]) < 1e-6


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        (STEP, "(n, yes, h)", "which takes .* nodes written out"),
        (STEP, "(, yes, h)", "which never ends"),
        (STEP.replace("Identity(on)", "Less(i, n)"), "(, yes, h)", "which takes .* nodes"),
    ],
)
def test_loops_without_end_are_named(body, inputs, reason):
    proto = looped(body, inputs=inputs, n=np.array(10**12), one=1.0)
    with pytest.raises(ox.UnsupportedOperator, match=f"Loop, {reason}.*node `Loop_1`"):
        ox.explain(proto, row(6))


def test_a_loop_off_the_way_stays():
    """What the scores do not depend on is left as it is, however it loops."""
    proto = net(
        f"""(float[N,6] x) => (float[N,4] y) {{ h = Gemm(x, w, b)  a = ReduceMax<keepdims=0>(h)
        c = Cast<to=7>(a)  y = Loop<body = {STEP}>(c, yes, h) }}""",
        yes=np.array(True),
        one=1.0,
        **HEAD,
    )
    explainer = ox.Explainer(proto, output="h", target=1)
    e = explainer(row(6))
    assert e.attributions["x"] == pytest.approx(row(6) * HEAD["w"][:, 1], abs=1e-6)
    assert "Loop" in {n.op_type for n in explainer.prepare(e.inputs).lowered.nodes}
    explained(proto, {"x": row(6, 1)})


# ----- Scan -----


@pytest.mark.parametrize("backwards", [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("axes", [(1, 1), (2, -1), (-1, 0)])
def test_scans(backwards, axes):
    """Over any axis, from either end, collected along any axis and in any order."""
    proto = net(
        f"""(float[2,4,4] x) => (float[A,B,C] y) {{
        q, all = Scan<num_scan_inputs=2, scan_input_axes=[{axes[0]}, 0],
            scan_input_directions=[{backwards[0]}, 0], scan_output_axes=[{axes[1]}],
            scan_output_directions=[{backwards[1]}],
            body = step (float[2,4] t, float[2,4] z, float[4] r)
                => (float[2,4] u, float[2,4] o)
            {{ m = MatMul(z, k)  n = Mul(t, r)  e = Add(m, n)  u = Tanh(e)  o = Mul(u, z) }}>
            (start, x, rows)
        f = ReduceSum<keepdims=0>(q)  y = Add(all, f) }}""",
        start=np.full((2, 4), 0.3),
        rows=np.linspace(-1, 1, 16).reshape(4, 4),
        k=HEAD["k"],
    )
    x = np.random.default_rng(0).standard_normal((2, 4, 4)).astype(np.float32)
    own = onnxruntime.InferenceSession(proto.SerializeToString()).run(["y"], {"x": x})[0]
    ours = run_once(lowered(proto, {"x": x}).proto, {"x": x}, ["y"])[0]
    assert ours == pytest.approx(own, abs=1e-6)
    agree(proto, {"x": x})


# ----- Sequences and optionals -----


def test_collected_in_a_loop():
    """A loop that appends to a sequence, and what is joined from it."""
    body = """step (int64 i, bool on, float[N,4] s, seq(float[N,4]) q)
        => (bool more, float[N,4] u, seq(float[N,4]) r)
        { more = Identity(on)  m = MatMul(s, k)  u = Tanh(m)  r = SequenceInsert(q, u) }"""
    for new, after in ((1, "y = ReduceSum<keepdims=0>(c, zero)"), (0, "y = MatMul(p, c)")):
        proto = looped(
            body,
            inputs="(n, yes, h, none)",
            outputs="last, all",
            after=f"c = ConcatFromSequence<axis=0, new_axis={new}>(all)  {after}",
            n=np.array(3),
            zero=[0],
            p=np.array([[1, -2, 0.5]]),
        )
        proto.graph.node.insert(0, helper.make_node("SequenceEmpty", [], ["none"], dtype=1))
        explained(proto, {"x": row(6)})
        kinds = {n.op_type for n in lowered(proto, {"x": row(6)}).nodes}
        assert not any("Sequence" in kind for kind in kinds)


def test_every_word_about_sequences():
    """Split, put in, taken out, counted, wrapped, mapped."""
    proto = net(
        """(float[1,10] x) => (float[1,4] y) {
        s = SplitToSequence<axis=1>(x, four)  i = Identity(s)  q = SequenceAt(i, minus)
        l = SequenceLength(i)  e = SequenceErase(i, one)  r = SequenceErase(e)
        g = SequenceAt(r, zero)  t = Tanh(g)  j = SequenceInsert(r, t, zero)
        h = SequenceMap<body = f (float[A,B] a) => (float[A,B] b) { c = Exp(a)  b = Mul(c, a) }>(j)
        o = Optional(h)  d = OptionalHasElement(o)  p = OptionalGetElement(o)
        z = ConcatFromSequence<axis=0>(p)  u = ReduceSum<keepdims=1>(z, first)
        k = Cast<to=1>(l)  m = Cast<to=1>(d)  v = Mul(u, k)  w = Mul(v, m)
        n = ReduceMean<keepdims=1>(q, last)  y = Add(w, n) }""",
        four=np.array(4),
        minus=np.array(-1),
        one=np.array(1),
        zero=np.array(0),
        first=[0],
        last=[1],
    )
    explained(proto, {"x": row(10)})
    kinds = {n.op_type for n in lowered(proto, {"x": row(10)}).nodes}
    assert kinds.isdisjoint({"Loop", "Optional"} | {k for k in kinds if "Sequence" in k})


def test_an_optional_without_anything_in_it():
    proto = net(
        """(float[N,4] x) => (float[N,4] y) { o = Optional<type = float[N,4]>()
        c = OptionalHasElement(o)
        y = If<then_branch = g () => (float[N,4] a) { a = OptionalGetElement(o) },
               else_branch = g () => (float[N,4] e) { e = Tanh(x) }>(c) }"""
    )
    explained(proto, {"x": row(4)})


def test_a_position_that_the_data_say():
    proto = net(
        """(float[N,4] x) => (float[N,2] y) { s = SplitToSequence<axis=1>(x, two)
        m = ReduceSum<keepdims=0>(x)  b = Greater(m, none)  i = Cast<to=7>(b)
        y = SequenceAt(s, i) }""",
        two=np.array(2),
        none=0.0,
    )
    x = np.array([[1, -2, 3, -4], [4, -3, 2, -1]], np.float32)
    e = ox.explain(proto, x, "gradient", target=0)
    assert e.attributions["x"].tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    with pytest.raises(ox.UnsupportedOperator, match=r"SequenceAt, whose position 5 .*At_1"):
        far = net(
            "(float[N,4] x) => (float[N,4] y) { s = SequenceConstruct(x)  y = SequenceAt(s, i) }",
            i=np.array(5),
        )
        ox.explain(far, x)


# ----- The standard's own cases, sequences and optionals among them -----

SHIFT = 0.0625
"""The cases sit on kinks; it is a power of two, so that it can be taken off again."""
PLUMBED = ("If", "Loop", "Scan", "SequenceMap", "Optional", "Sequence")


def tensors_of(case):
    """Return a case with the elements of its sequences as inputs and outputs; and its feeds."""
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    graph, before, after = proto.graph, [], []
    inputs, feeds, outputs = [], {}, []

    def held(name, value):
        array = np.asarray(value)
        if array.dtype == np.float32:
            inputs.append(helper.make_tensor_value_info(name, 1, array.shape))
            feeds[name] = np.asarray(array + np.float32(SHIFT))
        else:
            graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    for value, given in zip(graph.input, case.data_sets[0][0], strict=True):
        kind, name = value.type.WhichOneof("value"), value.name
        if kind == "tensor_type":
            held(name, given)
            continue
        inner = f"{name}_inside" if kind == "optional_type" else name
        if isinstance(given, list):
            parts = [held(f"{name}_{i}", part) for i, part in enumerate(given)]
            op_type = "SequenceConstruct" if parts else "SequenceEmpty"
            before.append(helper.make_node(op_type, parts, [inner]))
        elif given is not None:
            held(inner, given)
        if kind == "optional_type":
            said = {} if given is not None else {"type": value.type.optional_type.elem_type}
            parts = [inner] if given is not None else []
            before.append(helper.make_node("Optional", parts, [name], **said))
    for value, given in zip(graph.output, case.data_sets[0][1], strict=True):
        name = value.name
        if value.type.HasField("optional_type"):
            after.append(helper.make_node("OptionalGetElement", [name], [f"{name}_inside"]))
            name = f"{name}_inside"
        parts = [(name, given)]
        if isinstance(given, list):
            parts = [(f"{name}_{i}", part) for i, part in enumerate(given)]
            for i, (part, _) in enumerate(parts):
                at = numpy_helper.from_array(np.array(i), f"{part}_at")
                graph.initializer.append(at)
                after.append(helper.make_node("SequenceAt", [name, at.name], [part]))
        for part, array in parts:
            kind = helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
            outputs.append(helper.make_tensor_value_info(part, kind, None))
    nodes = [*before, *graph.node, *after]
    for field in (graph.node, graph.input, graph.output):
        del field[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    return proto, feeds


def plumbed():
    """Return the cases with control flow or sequences in them."""
    found = []
    for name, case in cases().items():
        kinds = {node.op_type for node in case.model.graph.node}
        if any(kind.startswith(PLUMBED) or "Sequence" in kind for kind in kinds):
            found.append(name)
    return [name for name in found if "linear_attention" not in name]


@pytest.mark.parametrize("name", plumbed())
def test_node_cases(name):
    """Nothing of it is left, and what comes out is what the standard says."""
    case = cases()[name]
    proto, feeds = tensors_of(case)
    low = lowered(proto, feeds, {} if "range_float_type" in name else None)
    left = {n.op_type for n in low.nodes if spelled(n.domain, n.op_type)} - {"Identity"}
    assert left <= ({"Loop"} if "range_float_type" in name else set())
    names = [v.name for v in proto.graph.output]
    expected = case.data_sets[0][1]
    flat_list = itertools.chain(*(v if isinstance(v, list) else [v] for v in expected))
    own = {n: np.asarray(v - np.float32(SHIFT)) for n, v in feeds.items()}
    ours = run_once(low.proto, own, names)
    for mine, theirs in zip(ours, flat_list, strict=True):
        assert np.shape(mine) == np.shape(theirs)
        assert np.allclose(mine, np.asarray(theirs, mine.dtype), atol=1e-5)


def floating(name):
    """Return a case with nothing but floats coming out, None where none does or none goes in."""
    proto, feeds = tensors_of(cases()[name])
    floats = [v for v in proto.graph.output if v.type.tensor_type.elem_type == 1]
    del proto.graph.output[:]
    proto.graph.output.extend(floats)
    return (proto, feeds) if feeds and floats else None


@pytest.mark.parametrize("name", [name for name in plumbed() if floating(name)])
def test_node_cases_three_ways(name):
    """Central difference = eager = compiled, the elements of sequences being the variables."""
    proto, feeds = floating(name)
    moved = flat(proto)
    try:
        explained_rows(moved, {f"{n}_row": v.reshape(1, -1) for n, v in feeds.items()})
    except ox.MethodError as error:
        assert "does not depend on" in str(error)  # a constant is chosen, whatever goes in


def explained_rows(proto, feeds):
    rng = np.random.default_rng(1)
    target = rng.standard_normal(
        ox.explain(proto, feeds, "gradient", engine="eager").logits.shape
    ).astype(np.float32)
    exact = ox.explain(proto, feeds, "gradient", target=target, engine="eager", dtype="float64")
    direction = {n: rng.standard_normal(v.shape) for n, v in exact.attributions.items()}
    ours = sum((exact.attributions[n] * d).sum() for n, d in direction.items())
    numeric = Numeric(proto, feeds, "scores", target)
    assert ours == pytest.approx(numeric.along(direction), rel=1e-6, abs=1e-6)
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, feeds, "gradient", target=target, engine=engine)
        for name, value in exact.attributions.items():
            assert np.allclose(e.attributions[name], value, atol=1e-5)
