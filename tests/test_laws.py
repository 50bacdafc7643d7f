"""What holds whatever the network: conservation at every cut, and the other laws of the method."""

import numpy as np
import onnxruntime
import pytest

import onnxexplain as ox
from onnxexplain.engines import TOGETHER
from onnxexplain.ops import operators
from tests.builders import Numeric, net, norm, weights
from tests.nets import NETS, convolutional, data, nets

ENGINES = ("eager", "compiled")
every_net = pytest.mark.parametrize("name", NETS)
core_nets = pytest.mark.parametrize("name", nets())
"""For what does not depend on the operator: the networks of the commonest ones."""
both_engines = pytest.mark.parametrize("engine", ENGINES)


def shares(e) -> float:
    """Return everything that was given to inputs and constants, in absolute terms."""
    given = [np.abs(v.astype(np.float64)).sum() for v in e.attributions.values()]
    return sum(given) + sum(np.abs(v).sum() for v in e.constants.values())


# ----- Conservation -----


def test_every_operator_is_in_a_net():
    used = {node.op_type for proto in NETS.values() for node in proto.graph.node}
    registered = {op.op_type for op in operators() if op.role != "stop" and not op.domain}
    # A cast between floats is lowered away; two are newer than the nets. See the conformance tests.
    missing = registered - used - {"Cast", "Gelu", "Swish"}
    assert not missing


@every_net
def test_conserves_in_float64(name):
    proto = NETS[name]
    e = ox.explain(proto, data(proto, 2), engine="eager", dtype="float64", targets="all")
    assert e.residual.shape == (4, 2)
    assert np.abs(e.residual).max() <= 1e-12


@every_net
@both_engines
def test_conserves_in_float32(name, engine):
    """Promise 1, with the sums taken by the test itself."""
    proto = NETS[name]
    e = ox.explain(proto, data(proto, 1), engine=engine, target=2)
    given = sum(v.astype(np.float64).sum() for v in e.attributions.values())
    gap = abs(e.score[0] - given - e.constant[0])
    assert gap <= 1e-5 * max(1, abs(e.score[0])) + 1e-7 * shares(e)
    assert np.allclose(
        e.residual, (e.score - given - e.constant) / max(1, abs(e.score[0])), atol=2e-6
    )


@core_nets
@both_engines
def test_score_is_the_models_own(name, engine):
    proto = NETS[name]
    feeds = data(proto, 2)
    e = ox.explain(proto, feeds, engine=engine, targets="all")
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    singles = [{n: v[i : i + 1] for n, v in feeds.items()} for i in range(2)]
    theirs = np.concatenate([session.run(["y"], one)[0] for one in singles])
    assert np.allclose(e.logits, theirs, atol=1e-5)
    assert np.allclose(e.score, theirs.T, atol=1e-5)


@every_net
def test_gradient_is_the_central_difference(name):
    proto, rng = NETS[name], np.random.default_rng(5)
    feeds = data(proto, 1)
    seed = rng.standard_normal((1, 4))
    e = ox.explain(proto, feeds, "gradient", engine="eager", dtype="float64", target=seed)
    numeric = Numeric(proto, feeds, "y", seed.astype(np.float32))
    for _ in range(2):
        direction = {n: rng.standard_normal(v.shape) for n, v in feeds.items()}
        ours = sum((e.attributions[n] * d).sum() for n, d in direction.items())
        assert ours == pytest.approx(numeric.along(direction), rel=1e-6, abs=1e-7)


@every_net
def test_compiled_is_eager(name):
    proto = NETS[name]
    feeds = data(proto, 2)
    eager, compiled = (ox.explain(proto, feeds, engine=e, targets="all") for e in ENGINES)
    for tensor, value in eager.attributions.items():
        assert compiled.attributions[tensor].dtype == value.dtype == np.float32
        assert np.allclose(
            compiled.attributions[tensor], value, atol=1e-5 * max(1, np.abs(value).max())
        )
    assert compiled.constants.keys() == eager.constants.keys()
    for tensor, value in eager.constants.items():
        assert np.allclose(compiled.constants[tensor], value, atol=1e-4)


@core_nets
@both_engines
def test_every_layer_compiled_is_eager(name, engine):
    """Each tensor's score and constant, each in the tensor's own shape, against float64."""
    proto = NETS[name]
    feeds = data(proto, 1)
    exact = ox.explain(proto, feeds, engine="eager", dtype="float64", target=1, layers="all")
    e = ox.explain(proto, feeds, engine=engine, target=1, layers="all")
    assert list(e.layers) == list(exact.layers)
    for tensor, layer in exact.layers.items():
        mine = e.layers[tensor]
        assert mine.score.shape == mine.activation.shape == mine.constant.shape
        for ours, theirs in ((mine.score, layer.score), (mine.constant, layer.constant)):
            assert np.allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max())), tensor


# ----- Cuts -----

CHAIN = net(
    """(float[N,3,12,12] x) => (float[N,4] y) {
        c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)
        n1 = BatchNormalization(c1, bn_scale, bn_b, bn_mean, bn_var)  r1 = Relu(n1)
        p1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r1)
        c2 = Conv(p1, w2, b2)  t2 = Tanh(c2)
        p2 = AveragePool<kernel_shape=[2,2], strides=[2,2]>(t2)
        f = Flatten(p2)  g1 = Gemm<transB=1>(f, v, c)  k = Sub(one, g1)  y = Relu(k) }""",
    one=1.0,
    **weights(11, w1=(5, 3, 3, 3), b1=(5,), w2=(6, 5, 3, 3), b2=(6,), v=(4, 24), c=(4,)),
    **norm(12, 5),
)


@both_engines
def test_every_cut_conserves(engine):
    """The sum of a layer's scores and of the constants above it is the score."""
    explainer = ox.Explainer(CHAIN, engine=engine, layers="all", target=np.ones((3, 4)))
    e = explainer(data(CHAIN, 3))
    order = [node.output[0] for node in CHAIN.graph.node]
    for i, tensor in enumerate(order):
        above = sum((e.constants[t] for t in order[i + 1 :] if t in e.constants), np.zeros(3))
        here = e.layers[tensor].score.reshape(3, -1).sum(1, dtype=np.float64)
        assert here + above == pytest.approx(e.score, abs=2e-5)


@both_engines
def test_block_constants_add_up(engine):
    """Blocks share out the constants: their sums are the total, none counted twice."""
    e = ox.explain(CHAIN, data(CHAIN, 2), engine=engine, target=np.ones((2, 4)), layers="all")
    born = sum(e.layers[t].constant.reshape(2, -1).sum(1, dtype=np.float64) for t in e.blocks)
    assert born == pytest.approx(e.constant, abs=2e-5)
    assert e.blocks == ("r1", "t2", "y")


@core_nets
def test_no_input_all_constants(name):
    proto = NETS[name]
    zeros = {n: np.zeros_like(v) for n, v in data(proto, 1).items()}
    e = ox.explain(proto, zeros, engine="eager", dtype="float64", targets="all")
    assert not any(v.any() for v in e.attributions.values())
    assert e.constant == pytest.approx(e.score, abs=1e-12)


# ----- Scaling, linearity, permutation -----

BARE = net(
    """(float[N,3,8,8] x) => (float[N,4] y) {
        h = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(h)
        m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
        k = Conv(m, w2)  l = LeakyRelu(k)  s = GlobalAveragePool(l)  f = Flatten(s)
        y = MatMul(f, v) }""",
    **weights(13, w=(6, 3, 3, 3), w2=(8, 6, 3, 3), v=(8, 4)),
)


@both_engines
def test_without_biases_scores_scale(engine):
    x = data(BARE, 1)["x"]
    one, three = (ox.explain(BARE, x * k, engine=engine, target=1) for k in (1, np.float32(3)))
    assert not one.constant.any()
    assert three.score == pytest.approx(3 * one.score, rel=1e-5)
    assert np.allclose(three.attributions["x"], 3 * one.attributions["x"], atol=1e-5)


@both_engines
def test_linear_in_the_target(engine):
    proto = NETS["squeeze-and-excite"]
    explainer = ox.Explainer(proto, engine=engine)
    x = data(proto, 2)
    every = explainer(x, targets="all")
    mix = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    mixed = explainer(x, target=mix)
    weighted = np.einsum("nt,tn...->n...", mix, every.attributions["x"])
    assert np.allclose(mixed.attributions["x"], weighted, atol=1e-5)
    assert mixed.score == pytest.approx(np.einsum("nt,tn->n", mix, every.score), abs=1e-5)
    summed = explainer(x, target=np.ones((2, 4), np.float32))
    assert np.allclose(summed.attributions["x"], every.attributions["x"].sum(0), atol=1e-5)


@both_engines
def test_permuted_classes_permute_the_maps(engine):
    order = [2, 0, 3, 1]
    held = weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6), c=(4,))
    body = """(float[N,3,8,8] x) => (float[N,4] y) {
        h = Conv<pads=[1,1,1,1]>(x, w, b) a = Relu(h) g = GlobalAveragePool(a) f = Flatten(g)
        y = Gemm<transB=1>(f, v, c) }"""
    plain = net(body, **held)
    turned = net(body, **{**held, "v": held["v"][order], "c": held["c"][order]})
    x = data(plain, 2)
    ours = ox.explain(plain, x, engine=engine, targets="all").attributions["x"]
    theirs = ox.explain(turned, x, engine=engine, targets="all").attributions["x"]
    assert np.allclose(theirs, ours[order], atol=1e-6)


@both_engines
def test_several_targets_are_singles(engine):
    proto = NETS["blocked"]
    explainer = ox.Explainer(proto, engine=engine)
    x = data(proto, 3)
    every = explainer(x, targets="all")
    some = explainer(x, targets=[2, 0])
    for t in range(4):
        single = explainer(x, target=t)
        assert np.allclose(every.attributions["x"][t], single.attributions["x"], atol=1e-6)
        assert every.constant[t] == pytest.approx(single.constant, abs=1e-6)
        assert every.target[t].tolist() == single.target.tolist() == [t] * 3
    assert np.allclose(some.attributions["x"], every.attributions["x"][[2, 0]], atol=1e-6)
    one = explainer(x, targets=[1])
    assert one.attributions["x"].shape == (1, 3, 3, 8, 8)
    assert one.score.shape == (1, 3)


@both_engines
def test_targets_in_every_form(engine):
    proto = NETS["relu"]
    labels = ["a", "b", "c", "d"]
    explainer = ox.Explainer(proto, engine=engine, labels=labels)
    x = data(proto, 2)
    by_class = explainer(x, target=3)
    seed = np.zeros((2, 4), np.float32)
    seed[:, 3] = 1
    for target in ("d", np.int64(3), np.array([3, 3]), (3,), (-1,), seed):
        e = explainer(x, target=target)
        assert np.allclose(e.attributions["x"], by_class.attributions["x"], atol=1e-6), target
    apart = explainer(x, target=np.array([1, 2]))
    assert apart.target.tolist() == [1, 2]
    assert apart.score == pytest.approx(apart.logits[[0, 1], [1, 2]], abs=1e-6)
    top = explainer(x)
    assert top.target.tolist() == top.logits.argmax(1).tolist()


@both_engines
def test_against_is_the_difference(engine):
    proto = NETS["relu"]
    x = data(proto, 2)
    e = ox.explain(proto, x, engine=engine, target=1, against=3)
    every = ox.explain(proto, x, engine=engine, targets="all")
    expected = every.attributions["x"][1] - every.attributions["x"][3]
    assert np.allclose(e.attributions["x"], expected, atol=1e-6)
    assert e.score == pytest.approx(every.score[1] - every.score[3], abs=1e-5)


# ----- Batches -----


@pytest.mark.parametrize("name", ["relu", "blocked", "squeeze-and-excite", "tokens", "two-inputs"])
@both_engines
def test_a_batch_is_its_samples(name, engine):
    proto = NETS[name]
    explainer = ox.Explainer(proto, engine=engine, layers="all")
    feeds = data(proto, 3)
    target = np.array([1, 3, 0])
    together = explainer(feeds, target=target)
    for i in range(3):
        alone = explainer({n: v[i : i + 1] for n, v in feeds.items()}, target=target[i : i + 1])
        for tensor, value in alone.attributions.items():
            assert np.allclose(together.attributions[tensor][i : i + 1], value, atol=1e-5)
        assert together.residual[i] == pytest.approx(alone.residual[0], abs=1e-5)
        for tensor, layer in alone.layers.items():
            assert np.allclose(together.layers[tensor].score[i : i + 1], layer.score, atol=1e-5)


@both_engines
def test_a_model_of_one_sample_takes_a_batch(engine):
    proto = NETS["relu"]
    fixed = type(proto)()
    fixed.CopyFrom(proto)
    for value in (fixed.graph.input[0], fixed.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    x = data(proto, 3)["x"]
    ours = ox.explain(fixed, x, engine=engine, targets="all", layers="h")
    theirs = ox.explain(proto, x, engine=engine, targets="all", layers="h")
    assert ours.attributions["x"].shape == (4, 3, 3, 8, 8)
    assert np.allclose(ours.attributions["x"], theirs.attributions["x"], atol=1e-6)
    assert np.allclose(ours.layers["h"].score, theirs.layers["h"].score, atol=1e-6)
    assert ours.target.tolist() == theirs.target.tolist()


def test_samples_that_mix_run_one_by_one():
    """A network that sums over its batch has no samples to speak of; each is explained alone."""
    proto = net(
        """(float[N,6] x) => (float[N,4] y) {
            m = ReduceMean<keepdims=1>(x, axes)  d = Sub(x, m)  y = Gemm(d, v) }""",
        axes=[0],
        **weights(3, v=(6, 4)),
    )
    x = data(proto, 3)["x"]
    e = ox.explain(proto, x, target=1)
    assert np.abs(e.residual).max() < 1e-6
    assert np.allclose(e.score, 0, atol=1e-6)  # alone, each is its own mean


def test_top_per_sample_when_they_run_one_by_one():
    proto = NETS["relu"]
    fixed = type(proto)()
    fixed.CopyFrom(proto)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    x = data(proto, 4, seed=3)["x"] * 3
    e = ox.explain(fixed, x)
    assert e.target.tolist() == e.logits.argmax(1).tolist()
    combination = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    mixed = ox.explain(fixed, x, target=combination)
    assert mixed.score == pytest.approx((combination * e.logits).sum(1), abs=1e-4)


# ----- Ties -----

POOLED = net(
    """(float[N,1,6,6] x) => (float[N,1] y) {
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)  s = ReduceSum<keepdims=0>(p, axes)
        y = Identity(s) }""",
    axes=[2, 3],
)
BLOCKED_POOL = net(
    """(float[N,16,6,6] x) => (float[N,16] y) {
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)  s = ReduceSum<keepdims=0>(p, axes)
        y = Identity(s) }""",
    axes=[2, 3],
)


@both_engines
@pytest.mark.parametrize("level", [1.0, 0.0, -2.0, 1e-8, 1e8])
@pytest.mark.parametrize("proto", [POOLED, BLOCKED_POOL], ids=["one-channel", "blocked"])
def test_ties_have_one_winner(engine, level, proto):
    """On a constant image the first element of each window wins, and only it."""
    shape = data(proto, 1)["x"].shape
    x = np.full(shape, level, np.float32)
    seed = np.ones((1, shape[1]), np.float32)
    e = ox.explain(proto, x, "gradient", engine=engine, target=seed)
    expected = np.zeros((6, 6))
    expected[::2, ::2] = 1
    assert np.array_equal(e.attributions["x"], np.broadcast_to(expected, shape))


@both_engines
@pytest.mark.parametrize("proto", [POOLED, BLOCKED_POOL], ids=["one-channel", "blocked"])
def test_ties_shared(engine, proto):
    shape = data(proto, 1)["x"].shape
    rng = np.random.default_rng(3)
    x = rng.integers(0, 3, shape).astype(np.float32)
    seed = np.ones((1, shape[1]), np.float32)
    e = ox.explain(proto, x, engine=engine, target=seed, ties="share")
    assert np.abs(e.residual).max() < 1e-6
    windows = x.reshape(shape[1], 3, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4)
    won = windows == windows.max(1, keepdims=True)
    expected = (won / won.sum(1, keepdims=True) * windows).reshape(shape[1], 3, 3, 2, 2)
    expected = expected.transpose(0, 1, 3, 2, 4).reshape(shape)
    assert np.allclose(e.attributions["x"], expected, atol=1e-6)


@both_engines
@pytest.mark.parametrize("ties", ["first", "share"])
@pytest.mark.parametrize("name", ["max-pool", "max-pool-overlapping", "blocked"])
def test_flat_images_conserve(engine, ties, name):
    proto = NETS[name]
    x = data(proto, 1)["x"]
    x[:, :, 2:7] = 0.5  # a flat band, whose windows tie
    e = ox.explain(proto, x, engine=engine, ties=ties, targets="all")
    assert np.abs(e.residual).max() < 1e-5
    for wrong in (np.zeros_like(x), np.ones_like(x)):
        e = ox.explain(proto, wrong, engine=engine, ties=ties, targets="all")
        assert np.abs(e.residual).max() < 1e-5


# ----- Types, zero times infinity -----


@core_nets
@both_engines
def test_float32_stays_float32(name, engine):
    proto = NETS[name]
    e = ox.explain(proto, data(proto, 1), engine=engine, layers="all")
    assert {v.dtype for v in e.attributions.values()} == {np.dtype(np.float32)}
    for layer in e.layers.values():
        assert layer.score.dtype == layer.constant.dtype == np.float32


@both_engines
def test_nothing_where_the_class_cannot_see(engine):
    """A channel that no weight reads, a unit whose derivative is zero: no share, no NaN."""
    proto = net(
        """(float[N,2] x) => (float[N,2] y) { d = Div(one, x)  z = Mul(d, mask)  y = Add(z, x) }""",
        one=1.0,
        mask=[0.0, 1.0],
    )
    e = ox.explain(proto, np.array([[1.0, 2.0]], np.float32), engine=engine, target=0)
    assert e.attributions["x"].tolist() == [[1.0, 0.0]]


@both_engines
def test_masked_attention(engine):
    """Logits of minus infinity: zero times infinity is nothing, in shares, constants and maps."""
    mask = np.zeros((4, 4), np.float32)
    mask[np.triu_indices(4, 1)] = -np.inf
    proto = net(
        """(float[N,4,4] x) => (float[N,3] y) {
            l = Add(x, mask)  s = Softmax<axis=-1>(l)  o = MatMul(s, x)  f = Flatten(o)
            y = Gemm(f, v) }""",
        mask=mask,
        **weights(1, v=(16, 3)),
    )
    e = ox.explain(proto, data(proto, 2), target=1, engine=engine, layers="all")
    assert np.abs(e.residual).max() < 1e-5
    assert np.isfinite(e.heatmap()).all()
    for layer in e.layers.values():
        assert np.isfinite(layer.score).all()
        assert np.isfinite(layer.constant).all()


@both_engines
def test_a_root_at_zero(engine):
    """Infinitely steep there, which counts as 0."""
    proto = net("(float[N,3] x) => (float[N,3] y) { y = Pow(x, half) }", half=0.5)
    x = np.array([[0.0, 1.0, 4.0]], np.float32)
    e = ox.explain(proto, x, target=np.ones((1, 3)), engine=engine)
    assert e.attributions["x"].tolist() == [[0, 0.5, 1]]
    assert e.constant.tolist() == [1.5]
    assert e.residual.tolist() == [0]


@both_engines
def test_an_output_without_a_class_axis(engine):
    proto = net(
        "(float[N,3] x) => (float[N] y) { r = Relu(x)  y = ReduceSum<keepdims=0>(r, axes) }",
        axes=[1],
    )
    x = np.array([[-1, 2, 3], [4, 5, 6]], np.float32)
    for target in ("top", 0):
        e = ox.explain(proto, x, target=target, engine=engine)
        assert e.score.tolist() == [5, 15]
        assert e.attributions["x"].tolist() == [[0, 2, 3], [4, 5, 6]]


@both_engines
def test_tokens_and_windows(engine):
    """Tensors that lose positions, or hold them in the batch axis: totals stay right, and the map
    of an image still adds up to its score."""
    held = weights(1, w=(6, 3, 4, 4), b=(6,), wq=(4, 4), bq=(4,), v=(24, 4), c=(4,))
    body = """(float[N,3,8,8] x) => (float[N,4] y) {{
        k = Conv<strides=[4,4]>(x, w, b)  r = Reshape(k, inner)  q = MatMul(r, wq)
        a = Add(q, bq)  h = Tanh(a)  z = Reshape(h, outer)  y = Gemm(z, v, c) }}""".format()
    for inner in ([0, 6, 4], [-1, 3, 4]):
        proto = net(body, inner=np.array(inner), outer=np.array([-1, 24]), **held)
        e = ox.explain(proto, data(proto, 2), target=1, engine=engine)
        assert np.abs(e.residual).max() < 1e-5
        assert e.constant.shape == (2,)
        total = e.heatmap().sum((1, 2), dtype=np.float64)
        assert total == pytest.approx(e.score, abs=2e-5)


@both_engines
def test_folding_batchnorm_changes_nothing(engine):
    """Folded into the convolution, shares and block constants are the same."""
    held, bn = weights(1, w=(6, 3, 3, 3), b=(6,), v=(4, 6), c=(4,)), norm(2, 6)
    slope = bn["bn_scale"] / np.sqrt(bn["bn_var"] + np.float32(1e-5))
    folded = {
        **held,
        "w": held["w"] * slope[:, None, None, None],
        "b": (held["b"] - bn["bn_mean"]) * slope + bn["bn_b"],
    }
    body = """(float[N,3,8,8] x) => (float[N,4] y) {{ {} a = Relu(n) g = GlobalAveragePool(a)
        f = Flatten(g) y = Gemm<transB=1>(f, v, c) }}"""
    apart = net(
        body.format(
            "h = Conv<pads=[1,1,1,1]>(x, w, b) "
            "n = BatchNormalization(h, bn_scale, bn_b, bn_mean, bn_var)"
        ),
        **held,
        **bn,
    )
    merged = net(body.format("n = Conv<pads=[1,1,1,1]>(x, w, b)"), **folded)
    x = data(apart, 1)
    ours, theirs = (ox.explain(p, x, engine=engine, target=2, layers="a") for p in (apart, merged))
    assert np.allclose(ours.attributions["x"], theirs.attributions["x"], atol=1e-5)
    assert np.allclose(ours.layers["a"].constant, theirs.layers["a"].constant, atol=1e-5)


# ----- Plans -----


def test_plans_join():
    def one(step, g):
        return step.back(g)

    def other(step, g):
        return step.back(g)

    class Node:
        op_type, name = "Relu", "/a/Relu"

    class Operator:
        role = "activation"

    class Step:
        node, operator = Node, Operator

    assert ox.Plan(("Relu", one))(Step) is one
    assert (ox.Plan(("Relu", one)) | ox.Plan(("*", other)))(Step) is one
    assert (ox.Plan(("Conv", one)) | ox.Plan(("*", other)))(Step) is other
    assert ox.Plan(("activation", one), ("Relu", other))(Step) is one
    assert ox.Plan(("/a/Relu", other), ("Relu", one))(Step) is other
    assert ox.Plan((lambda step: step.node.op_type == "Relu", one))(Step) is one
    with pytest.raises(ox.MethodError, match="no rule"):
        ox.Plan(("Conv", one))(Step)


def test_convolutional_builder_names():
    """The nets above are the ones the tests think they are."""
    proto = convolutional("a = Relu(h)")
    assert [n.op_type for n in proto.graph.node] == [
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    ]


def test_more_targets_than_run_together():
    """Beyond the number that share a run, one run follows the other: the answers stay the same."""
    proto = NETS["relu"]
    feeds = data(proto, 2)
    chosen = [i % 4 for i in range(2 * TOGETHER + 3)]
    many = ox.explain(proto, feeds, targets=chosen)
    assert many.target.tolist() == [[c, c] for c in chosen]
    for c in range(4):
        one = ox.explain(proto, feeds, target=c)
        for row in np.flatnonzero(np.array(chosen) == c):
            assert np.array_equal(many.attributions["x"][row], one.attributions["x"])
            assert np.array_equal(many.constant[row], one.constant)
