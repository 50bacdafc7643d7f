"""RNN, GRU and LSTM, spelled out step by step: the runtime's own numbers, and their derivatives."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import onnxexplain as ox
from onnxexplain.graph import lower
from onnxexplain.methods import Way, account
from onnxexplain.ops import role_of
from onnxexplain.runtime import evaluate, newest, run_once
from onnxexplain.tensor import Arrays
from tests.builders import net
from tests.conformance.test_geometry import agree
from tests.nets import data
from tests.nets_recurrent import cells, nets, recurrent

both_engines = pytest.mark.parametrize("engine", ["eager", "compiled"])

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
OUTPUTS = {"RNN": ("Y", "H"), "GRU": ("Y", "H"), "LSTM": ("Y", "H", "C")}
ACTIVATIONS = (
    "Relu Tanh Sigmoid Affine LeakyRelu ThresholdedRelu ScaledTanh HardSigmoid Elu Softsign "
    "Softplus"
).split()


def layer(op_type, sizes, *, outputs=None, directions=1, given=None, inputs=(), seed=0, **said):
    """A model of one recurrent node; ``given`` are more inputs, those of ``inputs`` free."""
    steps, batch, width, hidden = sizes
    rng, gates = np.random.default_rng(seed), GATES[op_type] * hidden
    held = {
        "W": rng.standard_normal((directions, gates, width)),
        "R": rng.standard_normal((directions, gates, hidden)),
        "B": rng.standard_normal((directions, 2 * gates)),
    }
    held = {n: v.astype(np.float32) for n, v in held.items()} | (given or {})
    optional = ("B", "sequence_lens", "initial_h", "initial_c", "P")
    names = ["X", "W", "R", *(n if n in held else "" for n in optional)]
    while not names[-1]:
        names.pop()
    node = helper.make_node(op_type, names, outputs or OUTPUTS[op_type], "cell", **said)
    node.attribute.append(helper.make_attribute("hidden_size", hidden))
    shape = [batch, steps, width] if said.get("layout") else [steps, batch, width]
    free = [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, shape)]
    for name in inputs:
        kind = helper.np_dtype_to_tensor_dtype(held[name].dtype)
        free.append(helper.make_tensor_value_info(name, kind, held[name].shape))
    graph = helper.make_graph(
        [node],
        "layer",
        free,
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in node.output if n],
        [numpy_helper.from_array(v, n) for n, v in held.items() if n not in inputs],
    )
    feeds = {"X": rng.standard_normal(shape).astype(np.float32)}
    feeds |= {n: held[n] for n in inputs}
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8), feeds


def spelled(proto, feeds, dtype="float32"):
    sizes = {n: v.shape for n, v in feeds.items()}
    return lower(proto, sizes, run_once, dtype, newest(), role_of)


def agrees(proto, feeds):
    """The lowered model gives every output of the file as the runtime does."""
    lowered = spelled(proto, feeds)
    assert not {n.op_type for n in lowered.nodes} & set(GATES)
    names = [v.name for v in proto.graph.output]
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    ours, theirs = run_once(lowered.proto, feeds, names), session.run(names, feeds)
    for name, mine, own in zip(names, ours, theirs, strict=True):
        assert mine.shape == own.shape
        assert np.allclose(mine, own, atol=1e-5 * max(1, np.abs(own).max())), name


# ----- The runtime's own numbers -----


def drawn(op_type, seed):
    """A layer with attributes and inputs drawn at random."""
    rng = np.random.default_rng(seed)
    steps, batch, _, hidden = sizes = [int(n) for n in rng.integers(1, 5, 4)]
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    said = {"direction": direction}
    many = FUNCTIONS[op_type] * directions
    if rng.random() < 0.6:
        known = ACTIVATIONS[:-1] if op_type == "RNN" else ACTIVATIONS  # there is no RNN with it
        said["activations"] = [str(a) for a in rng.choice(known, many)]
        if rng.random() < 0.5:
            said["activation_alpha"] = rng.uniform(0.2, 1.2, many).tolist()
            said["activation_beta"] = rng.uniform(0.2, 1.2, many).tolist()
    if rng.random() < 0.3:
        said["clip"] = float(rng.uniform(0.1, 0.8))
    if op_type == "GRU" and rng.random() < 0.5:
        said["linear_before_reset"] = 1
    if op_type == "LSTM" and rng.random() < 0.4:
        said["input_forget"] = 1
    shapes = {"initial_h": (directions, batch, hidden)}
    if op_type == "LSTM":
        shapes |= {"initial_c": (directions, batch, hidden), "P": (directions, 3 * hidden)}
    given = {n: 0.5 * rng.standard_normal(s) for n, s in shapes.items() if rng.random() < 0.5}
    given = {n: v.astype(np.float32) for n, v in given.items()}
    if rng.random() < 0.5:
        given["sequence_lens"] = rng.integers(0, steps + 1, batch).astype(np.int32)
    inputs = [n for n in given if rng.random() < 0.4]
    outputs = [n if rng.random() < 0.8 else "" for n in OUTPUTS[op_type]]
    if not any(outputs):
        outputs[-1] = "H"
    return layer(
        op_type,
        sizes,
        outputs=outputs,
        directions=directions,
        given=given,
        inputs=inputs,
        seed=seed,
        **said,
    )


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("seed", range(25))
def test_as_the_runtime(op_type, seed):
    """Directions, activations, clips, initial states, lengths, peepholes, in any combination."""
    agrees(*drawn(op_type, seed))


@pytest.mark.parametrize("op_type", GATES)
def test_without_bias(op_type):
    proto, feeds = layer(op_type, (3, 2, 4, 5))
    node = proto.graph.node[0]
    node.input[3] = ""
    agrees(proto, feeds)


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_samples_first(op_type, direction):
    """With ``layout`` the batch axis comes first, in what goes in and in what comes out."""
    two = 2 if direction == "bidirectional" else 1
    start = {n: np.full((two, 2, 3), 0.3, np.float32) for n in ("initial_h", "initial_c")}
    start = start if op_type == "LSTM" else {"initial_h": start["initial_h"]}
    turned = {n: v.transpose(1, 0, 2) for n, v in start.items()}
    said = {"directions": two, "direction": direction}
    last, x = layer(op_type, (4, 2, 5, 3), given=start, **said)
    first, _ = layer(op_type, (4, 2, 5, 3), given=turned, layout=1, **said)
    names = list(OUTPUTS[op_type])
    theirs = onnxruntime.InferenceSession(last.SerializeToString()).run(names, x)
    feeds = {"X": x["X"].transpose(1, 0, 2)}
    ours = run_once(spelled(first, feeds).proto, feeds, names)
    turns = [(2, 0, 1, 3), (1, 0, 2), (1, 0, 2)]
    for mine, own, turn in zip(ours, theirs, turns, strict=False):
        assert np.allclose(mine, own.transpose(turn), atol=1e-6)


# ----- Derivatives -----


@pytest.mark.parametrize("op_type", GATES)
def test_gradient_is_the_central_difference(op_type):
    """At the input, the states before the first step and the peepholes, with constant lengths."""
    names = {"RNN": ["initial_h"], "GRU": ["initial_h"], "LSTM": ["initial_h", "initial_c", "P"]}
    shapes = {"initial_h": (2, 3, 4), "initial_c": (2, 3, 4), "P": (2, 12)}
    rng = np.random.default_rng(3)
    given = {n: rng.standard_normal(shapes[n]).astype(np.float32) for n in names[op_type]}
    given["sequence_lens"] = np.array([2, 5, 3], np.int32)
    said = {"directions": 2, "direction": "bidirectional", "given": given}
    proto, feeds = layer(op_type, (5, 3, 2, 4), inputs=names[op_type], **said)
    agree(proto, feeds)
    exact = ox.explain(
        proto, {f"{n}_row": v.reshape(1, -1) for n, v in feeds.items()}, "gradient", target="sum"
    )
    at_x = exact.attributions["X_row"].reshape(5, 3, 2)
    assert not at_x[2:, 0].any()  # the first sample has ended
    assert at_x[:2, 0].any()
    assert at_x[4, 1].any()


@both_engines
def test_lengths_that_are_inputs(engine):
    """Where each sample ends may be known only when the model runs."""
    proto = net(
        """(float[N,T,6] x, int32[N] lengths) => (float[N,6] y) {
        t = Transpose<perm=[1,0,2]>(x)
        , H, C = LSTM<hidden_size=3, direction="bidirectional">(t, W, R, B, lengths)
        r = Transpose<perm=[1,0,2]>(H)  y = Flatten(r) }""",
        **cells(4, 2),
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 6)).astype(np.float32)
    feeds = {"x": x, "lengths": np.array([2, 5, 0], np.int32)}
    e = ox.explain(proto, feeds, engine=engine, target=4)
    own = onnxruntime.InferenceSession(proto.SerializeToString()).run(["y"], feeds)[0]
    assert e.score == pytest.approx(own[:, 4], abs=1e-6)
    assert np.abs(e.residual).max() < 1e-6
    reached = e.attributions["x"].any(axis=2)
    assert reached.tolist() == [[True, True, False, False, False], [True] * 5, [False] * 5]
    short = ox.explain(proto, {"x": x[:1, :2], "lengths": feeds["lengths"][:1]}, target=4)
    assert np.allclose(short.attributions["x"], e.attributions["x"][:1, :2], atol=1e-6)


def test_weights_that_are_computed():
    """Weights may depend on the input themselves."""
    proto = net(
        """(float[1,6] x) => (float[1,4] y) { p = Tanh(x)  W = Unsqueeze(p, zero)
        t = Unsqueeze(x, zero)  , H = RNN<hidden_size=1>(t, W, R)  s = Squeeze(H, zero)
        y = MatMul(s, v) }""",
        zero=[0],
        R=np.full((1, 1, 1), 0.3),
        v=np.linspace(-1, 1, 4)[None],
    )
    agree(proto, {"x": np.linspace(-1, 1, 6)[None]})


# ----- The books -----


@both_engines
@pytest.mark.parametrize("name", [n for n in nets() if n not in ("if",)])
def test_names_are_those_of_the_file(name, engine):
    """However many nodes a recurrence becomes, nothing but the user's own names is told."""
    proto = nets()[name]
    own = {t for node in proto.graph.node for t in node.output}
    e = ox.explain(proto, data(proto, 1), target=1, engine=engine, layers="all")
    assert set(e.constants) <= own
    assert set(e.blocks) <= own
    assert set(e.layers) <= own | {"x"}


@pytest.mark.parametrize("name", nets())
def test_told_as_one_is_the_sum_of_the_steps(name):
    """What the file's node adds is what every node that it became adds, each computed apart."""
    proto = nets()[name]
    feeds = {n: v.astype(np.float64) for n, v in data(proto, 1).items()}
    lowered = spelled(proto, feeds, "float64")
    assert any(node.part_of for node in lowered.nodes)
    tensors = [n for n in lowered.shapes if n not in lowered.constants]
    values = lowered.constants | evaluate(lowered.proto, feeds, tensors)
    moving = frozenset(n for n in tensors if n in lowered.floats)
    seed = np.array([[1, -2, 0.5, 0.25]])
    apart = tuple(replace(node, part_of="") for node in lowered.nodes)
    totals = []
    for nodes in (lowered.nodes, apart):
        way = Way(Arrays(np), nodes, values, moving, ("x",), "y", seed)
        arrived = way.back(lambda step: lambda step, g: step.back(g))
        totals.append(dict(account.constants(way, arrived)))
    for whole in {node.part_of for node in lowered.nodes} - {""}:
        made = {t for node in lowered.nodes if node.part_of == whole for t in node.outputs}
        steps = sum(total for t, total in totals[1].items() if t in made)
        assert totals[0][whole] == pytest.approx(steps, abs=1e-12)


# ----- Long, and too long -----


@both_engines
def test_five_hundred_steps(engine):
    """One product for the input of all steps, eleven nodes for each, and the sum still right."""
    proto = recurrent("Y, H, C = LSTM<hidden_size=3>(t, W, R, B)", states=2, **cells(4))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 512
    x = np.random.default_rng(0).standard_normal((1, 512, 6)).astype(np.float32)
    lowered = spelled(proto, {"x": x})
    assert len([n for n in lowered.nodes if n.op_type == "Gemm"]) == 2
    assert len(lowered.nodes) < 11 * 512 + 40
    e = ox.explain(proto, x, engine=engine, target=2)
    assert abs(e.residual[0]) < 1e-5
    given = e.attributions["x"].sum(dtype=np.float64) + e.constant[0]
    assert given == pytest.approx(e.score[0], abs=1e-5)


def test_too_many_steps_are_named():
    proto = recurrent("Y, H = RNN<hidden_size=3>(t, W, R, B)", **cells(1))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9000
    with pytest.raises(ox.UnsupportedOperator, match=r"RNN, which takes .* nodes .*`RNN_1`"):
        ox.explain(proto, np.ones((1, 9000, 6), np.float32))


def test_an_activation_of_nobody_is_named():
    node = 'Y, H = RNN<hidden_size=3, activations=["Sine"]>(t, W, R, B)'
    proto = recurrent(node, **cells(1))
    with pytest.raises(ox.UnsupportedOperator, match="`Sine`"):
        ox.explain(proto, data(proto, 1))


# ----- Which axis counts the samples -----


@pytest.mark.parametrize("shape", ["5,1,6", "T,1,6", "T,N,6"])
@both_engines
def test_steps_first(shape, engine):
    """A sequence whose steps come first is one sample, not as many as it has steps."""
    proto = net(
        f"""(float[{shape}] x) => (float[N,3] y)
        {{ , H = RNN<hidden_size=3>(x, W, R, B)  y = Squeeze(H, zero) }}""",
        zero=[0],
        **cells(1),
    )
    x = np.random.default_rng(0).standard_normal((5, 1, 6)).astype(np.float32)
    e = ox.explain(proto, x, target=1, engine=engine)
    own = onnxruntime.InferenceSession(proto.SerializeToString()).run(["y"], {"x": x})[0]
    assert e.score == pytest.approx(own[:, 1], abs=1e-6)
    assert abs(e.residual).max() < 1e-6
    assert e.attributions["x"].any(axis=(1, 2)).all()
    if shape == "T,N,6":
        with pytest.raises(ox.InputError, match="axis 0 of `x` does not count samples"):
            ox.explain(proto, np.repeat(x, 3, axis=1), engine=engine)


def test_two_steps_are_no_batch_of_two():
    """Tensors with steps on axis 0 do not share a run where there happen to be two of each."""
    proto = net(
        """(float[N,T,6] x) => (float[N,6] y) { t = Transpose<perm=[1,0,2]>(x)  d = Add(t, k)
        s = Sigmoid(d)  y = ReduceSum<keepdims=0>(s, zero) }""",
        zero=[0],
        k=np.arange(6) / 9.0,
    )
    x = np.random.default_rng(0).standard_normal((2, 2, 6)).astype(np.float32)
    e = ox.explain(proto, x, target=1)
    alone = [ox.explain(proto, x[i : i + 1], target=1) for i in range(2)]
    assert np.abs(e.residual).max() < 1e-6
    assert e.constant == pytest.approx(np.concatenate([a.constant for a in alone]))


def test_a_file_made_for_two_samples():
    """Where steps and samples share an axis inside, each sample has books of its own."""
    proto = recurrent("Y, H = GRU<hidden_size=3>(t, W, R, B)", **cells(3))
    free = ox.explain(proto, data(proto, 2), target=1)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    e = ox.explain(proto, data(proto, 2), target=1)
    assert np.abs(e.residual).max() < 1e-6
    assert e.constant == pytest.approx(free.constant, abs=1e-6)
    assert np.allclose(e.attributions["x"], free.attributions["x"], atol=1e-6)


@both_engines
@pytest.mark.parametrize("op_type", GATES)
def test_a_file_made_for_one_sample_of_some_length(op_type, engine):
    """Its steps beyond the length weigh nothing; those before weigh what they weigh alone."""
    proto = recurrent(
        f"Y, H = {op_type}<hidden_size=3>(t, W, R, B, lengths)",
        lengths=np.int32([3]),
        **cells(GATES[op_type]),
    )
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    x = data(proto, 1)["x"]
    e = ox.explain(proto, x, target=1, engine=engine)
    own = onnxruntime.InferenceSession(proto.SerializeToString()).run(["y"], {"x": x})[0]
    assert e.score == pytest.approx(own[:, 1], abs=1e-6)
    assert np.abs(e.residual).max() < 1e-6
    assert not e.attributions["x"][:, 3:].any()
    assert e.attributions["x"][:, :3].any(axis=-1).all()
    late = x.copy()
    late[:, 3:] += 1
    again = ox.explain(proto, late, target=1, engine=engine)
    assert np.allclose(again.attributions["x"], e.attributions["x"], atol=1e-6)
    two = ox.explain(proto, np.concatenate([x, late]), target=1, engine=engine)  # one by one
    assert np.allclose(two.attributions["x"], np.repeat(e.attributions["x"], 2, 0), atol=1e-6)
