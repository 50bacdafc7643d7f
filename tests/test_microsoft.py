"""ONNX Runtime's own operators: what its kernels compute, and the derivatives of that."""

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxexplain as ox
from tests.bert import bert, sentence
from tests.builders import flat, net, weights
from tests.kernels import DOMAIN, ENGINES, agrees, made, x_of

HELD = {
    **weights(1, w=(4, 3, 3, 3), b=(4,), m=(6, 5), mt=(5, 6), c=(5,), g=(6,), k=(6,), o=(6,)),
    **weights(2, wn=(4, 3, 3, 3), b3=(5, 3, 6), bt=(6, 5, 3), r=(3, 4)),
    "z": x_of(1, 4, 5, 5, seed=4),
    "zl": x_of(1, 5, 5, 4, seed=4),
    "g4": np.linspace(0.5, 2, 4).astype(np.float32),
    "b4": np.linspace(-1, 1, 4).astype(np.float32),
    "skip": x_of(2, 3, 6, seed=5),
    "skip4": x_of(1, 3, 3, 4, seed=5),
    "pads": np.array([0, 1, 0, 2]),
    "axis": np.array([1], np.int32),
    "three": np.array(1),
    "index": np.array([[0, 2], [1, 1]]),
}
IMAGE = "(float[1,3,5,5] x) => (float[1,4,5,5] y)"
ROWS = "(float[2,6] x) => (float[2,5] y)"
SAME = "(float[2,3,6] x) => (float[2,3,6] y)"

PLAIN = {
    "conv": f"{IMAGE} {{ y = com.microsoft.FusedConv<pads=[1,1,1,1]>(x, w, b) }}",
    "conv-relu": f"""{IMAGE} {{
        y = com.microsoft.FusedConv<pads=[1,1,1,1], activation="Relu">(x, w, b) }}""",
    "conv-sum-leaky": f"""{IMAGE} {{ y = com.microsoft.FusedConv<pads=[1,1,1,1],
        activation="LeakyRelu", activation_params=[0.2]>(x, w, b, z) }}""",
    "conv-clip": f"""{IMAGE} {{ y = com.microsoft.FusedConv<pads=[1,1,1,1],
        activation="Clip", activation_params=[-0.3, 0.4]>(x, w, b) }}""",
    "conv-hard-sigmoid": f"""{IMAGE} {{ y = com.microsoft.FusedConv<pads=[1,1,1,1],
        activation="HardSigmoid", activation_params=[0.3, 0.4]>(x, w, b) }}""",
    "gemm-relu": f'{ROWS} {{ y = com.microsoft.FusedGemm<activation="Relu">(x, m, c) }}',
    "gemm-leaky": f"""{ROWS} {{ y = com.microsoft.FusedGemm<alpha=0.5, beta=2.0, transB=1,
        activation="LeakyRelu", activation_alpha=0.3>(x, mt, c) }}""",
    "matmul": f"{ROWS} {{ y = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(x, mt) }}",
    "matmul-turned": """(float[6,2] x) => (float[2,5] y) {
        y = com.microsoft.FusedMatMul<transA=1, alpha=1.0>(x, m) }""",
    "matmul-batches": """(float[2,5,3] x) => (float[5,2,6] y) {
        y = com.microsoft.FusedMatMul<transBatchA=1>(x, b3) }""",
    "matmul-batches-turned": """(float[3,5,2] x) => (float[5,2,6] y) {
        y = com.microsoft.FusedMatMul<transBatchA=1, transA=1, transBatchB=1, transB=1>(x, bt) }""",
    "transposed-matmul": f"{ROWS} {{ y = com.microsoft.TransposeMatMul<transB=1>(x, mt) }}",
    "gelu": f"{SAME} {{ y = com.microsoft.Gelu(x) }}",
    "bias-gelu": f"{SAME} {{ y = com.microsoft.BiasGelu(x, g) }}",
    "fast-gelu": f"{SAME} {{ y = com.microsoft.FastGelu(x) }}",
    "fast-gelu-biased": f"{SAME} {{ y = com.microsoft.FastGelu(x, g) }}",
    "quick-gelu": f"{SAME} {{ y = com.microsoft.QuickGelu<alpha=1.3>(x) }}",
    "skip-norm": f"{SAME} {{ y = com.microsoft.SkipLayerNormalization(x, skip, g, k) }}",
    "skip-norm-biased": """(float[2,3,6] x, float[2,3,6] v)
        => (float[2,3,6] y, float[2,3,6] total) {
        y, m1, m2, total = com.microsoft.SkipLayerNormalization<epsilon=0.001>(x, v, g, k, o) }""",
    "skip-rms": f"{SAME} {{ y = com.microsoft.SkipSimplifiedLayerNormalization(x, skip, g) }}",
    "rms": f"{SAME} {{ y = SimplifiedLayerNormalization<axis=-1, epsilon=0.01>(x, g) }}",
    "trilu": """(float[4,4] x) => (float[4,4] y) {
        y = com.microsoft.Trilu<upper=0>(x, three) }""",
    "pad": "(float[2,3] x) => (float[2,6] y) { y = com.microsoft.Pad(x, pads) }",
    "expand-dims": """(float[2,3,6] x) => (float[2,1,3,6] y) {
        y = com.microsoft.ExpandDims(x, axis) }""",
    "gather-nd": "(float[2,3] x) => (float[2] y) { y = com.microsoft.GatherND(x, index) }",
}


@pytest.mark.parametrize("name", PLAIN)
def test_as_the_kernel_has_it(name):
    agrees(*made(PLAIN[name], **HELD))


# ----- Made for other devices: no kernel on the CPU, so compared with what they stand for -----

ELSEWHERE = {
    "bias-softmax": (
        f"{SAME} {{ y = com.microsoft.BiasSoftmax<axis=2, is_inner_broadcast=1>(x, skip) }}",
        f"{SAME} {{ s = Add(x, skip)  y = Softmax<axis=2>(s) }}",
    ),
    "bias-softmax-of-two-axes": (
        f"{SAME} {{ y = com.microsoft.BiasSoftmax<axis=1, is_inner_broadcast=1>(x, skip) }}",
        f"""{SAME} {{ s = Add(x, skip)  f = Flatten(s)  p = Softmax<axis=-1>(f)
            y = Reshape(p, same) }}""",
    ),
    "bias-add": (
        f"{SAME} {{ y = com.microsoft.BiasAdd(x, g, skip) }}",
        f"{SAME} {{ s = Add(x, g)  y = Add(s, skip) }}",
    ),
    "bias-dropout": (
        f"{SAME} {{ y, seen = com.microsoft.BiasDropout(x, g, skip) }}",
        f"{SAME} {{ s = Add(x, g)  y = Add(s, skip) }}",
    ),
    "bias-split-gelu": (
        "(float[2,3,6] x) => (float[2,3,3] y) { y = com.microsoft.BiasSplitGelu(x, g) }",
        """(float[2,3,6] x) => (float[2,3,3] y) { s = Add(x, g)
            l, u = Split<axis=2, num_outputs=2>(s)  e = Gelu(u)  y = Mul(l, e) }""",
    ),
    "gemm-fast-gelu": (
        f"{ROWS} {{ y = com.microsoft.GemmFastGelu(x, m, c) }}",
        f'{ROWS} {{ h = MatMul(x, m)  s = Add(h, c)  y = Gelu<approximate="tanh">(s) }}',
    ),
    "matmul-softmax": (
        f"""{ROWS} {{ y = com.microsoft.FusedMatMulActivation<alpha=0.5,
            activation="Softmax", activation_axis=0>(x, m) }}""",
        f"{ROWS} {{ h = MatMul(x, m)  s = Mul(h, half)  y = Softmax<axis=0>(s) }}",
    ),
    "matmul-leaky": (
        f"""{ROWS} {{ y = com.microsoft.FusedMatMulActivation<transB=1,
            activation="LeakyRelu", activation_alpha=0.2>(x, mt) }}""",
        f"""{ROWS} {{ t = Transpose<perm=[1,0]>(mt)  h = MatMul(x, t)
            y = LeakyRelu<alpha=0.2>(h) }}""",
    ),
    "nhwc-conv": (
        """(float[1,5,5,3] x) => (float[1,5,5,4] y) {
            y = com.microsoft.NhwcConv<pads=[1,1,1,1]>(x, w, b) }""",
        """(float[1,5,5,3] x) => (float[1,5,5,4] y) { t = Transpose<perm=[0,3,1,2]>(x)
            h = Conv<pads=[1,1,1,1]>(t, w, b)  y = Transpose<perm=[0,2,3,1]>(h) }""",
    ),
    "nhwc-fused-conv": (
        """(float[1,5,5,6] x) => (float[1,3,3,4] y) {
            y = com.microsoft.NhwcFusedConv<activation="Relu">(x, wl, b, skip4) }""",
        """(float[1,5,5,6] x) => (float[1,3,3,4] y) { t = Transpose<perm=[0,3,1,2]>(x)
            v = Transpose<perm=[0,3,1,2]>(wl)  h = Conv(t, v, b)
            d = Transpose<perm=[0,2,3,1]>(h)  s = Add(d, skip4)  y = Relu(s) }""",
    ),
    "group-norm": (
        """(float[1,5,5,4] x) => (float[1,5,5,4] y) {
            y = com.microsoft.GroupNorm<groups=2, activation=1, epsilon=0.01>(x, g4, b4) }""",
        """(float[1,5,5,4] x) => (float[1,5,5,4] y) { t = Transpose<perm=[0,3,1,2]>(x)
            n = GroupNormalization<num_groups=2, epsilon=0.01>(t, g4, b4)
            d = Transpose<perm=[0,2,3,1]>(n)  s = Sigmoid(d)  y = Mul(d, s) }""",
    ),
    "skip-group-norm": (
        """(float[1,4,5,5] x) => (float[1,4,5,5] y, float[1,4,5,5] s) {
            y, s = com.microsoft.SkipGroupNorm
                <groups=2, activation=0, channels_last=0>(x, g4, b4, row) }""",
        """(float[1,4,5,5] x) => (float[1,4,5,5] y, float[1,4,5,5] s) {
            t = Reshape(row, column)  s = Add(x, t)
            y = GroupNormalization<num_groups=2>(s, g4, b4) }""",
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_as_what_it_stands_for(name):
    more = {"same": np.array([2, 3, 6]), "half": 0.5, "column": np.array([1, 4, 1, 1])}
    more |= {"wl": x_of(4, 3, 3, 6), "row": x_of(1, 4, seed=2)}
    (ours, feeds), (theirs, _) = (made(body, **HELD, **more) for body in ELSEWHERE[name])
    theirs.opset_import[0].version = 21
    theirs.ir_version = 10
    agrees(ours, feeds, kernel=False)
    rows = {f"{n}_row": v.reshape(1, -1) for n, v in feeds.items()}
    seed = None
    found = []
    for proto in (flat(made(ELSEWHERE[name][0], **HELD, **more)[0]), flat(theirs)):
        if seed is None:
            width = ox.explain(proto, rows, "gradient").logits.shape[1]
            seed = np.random.default_rng(2).standard_normal((1, width)).astype(np.float32)
        e = ox.explain(proto, rows, "gradient", target=seed)
        found.append((e.logits, e.attributions["x_row"]))
    for one, other in zip(*found, strict=True):
        assert np.allclose(one, other, atol=1e-5)


# ----- Files that ONNX Runtime optimised and saved -----


def optimised(proto, folder, level):
    """Return a model as ONNX Runtime saves it at a level of optimisation."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns of what it saves for one processor
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(folder / f"{level}.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return onnx.load(folder / f"{level}.onnx")


def operators(proto):
    return {(node.domain, node.op_type) for node in proto.graph.node}


def same(ours, theirs, feeds, target, wrt=(None, None)):
    """One model's explanation is the other's; both shared out whole."""
    for engine in ENGINES:
        one, other = (
            ox.explain(proto, feeds, engine=engine, target=target, wrt=t)
            for proto, t in zip((ours, theirs), wrt, strict=True)
        )
        for e in (one, other):
            assert np.abs(e.residual).max() < 1e-5
            assert e.difference is None or e.difference < 1e-5
        assert np.allclose(one.logits, other.logits, atol=1e-5)
        (mine,), (yours,) = one.attributions.values(), other.attributions.values()
        assert np.allclose(mine, yours, atol=1e-5 * max(1, np.abs(yours).max()))
        assert one.constant == pytest.approx(other.constant, abs=1e-4)


IMAGES = net(
    """(float[N,3,12,12] x) => (float[N,4] y) {
        h = Conv<pads=[1,1,1,1]>(x, w1, b1)
        n = BatchNormalization(h, s1, o1, m1, v1)  r = Relu(n)
        k = Conv<pads=[1,1,1,1]>(r, w2, b2)  t = Add(k, r)  u = Relu(t)
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(u)
        q = Conv<pads=[1,1,1,1]>(p, w3)  l = LeakyRelu<alpha=0.1>(q)
        g = GlobalAveragePool(l)  f = Flatten(g)  d = Gemm(f, v, c)  y = Sigmoid(d) }""",
    opset=13,
    **weights(1, w1=(16, 3, 3, 3), b1=(16,), w2=(16, 16, 3, 3), b2=(16,), w3=(16, 16, 3, 3)),
    **weights(2, v=(16, 4), c=(4,), o1=(16,), m1=(16,)),
    s1=np.linspace(-1, 1, 16),
    v1=np.linspace(0.5, 1, 16),
)


def test_an_optimised_network_of_images(tmp_path):
    made = optimised(IMAGES, tmp_path, "EXTENDED")
    assert (DOMAIN, "FusedConv") in operators(made)
    x = x_of(2, 3, 12, 12)
    for target in (0, 3):
        same(made, IMAGES, x, target)


def test_laid_out_for_one_processor(tmp_path):
    made = optimised(IMAGES, tmp_path, "ALL")
    assert "com.microsoft.nchwc" in {domain for domain, _ in operators(made)}
    with pytest.raises(ox.UnsupportedOperator, match="at level `extended`"):
        ox.explain(made, x_of(1, 3, 12, 12))


def test_an_optimised_transformer(tmp_path):
    made = optimised(bert(), tmp_path, "EXTENDED")
    assert {(DOMAIN, "SkipLayerNormalization"), (DOMAIN, "BiasGelu")} <= operators(made)
    norms = [node for node in made.graph.node if node.op_type == "SkipLayerNormalization"]
    same(made, bert(), sentence(), 1, (norms[0].output[0], "embedded"))


@pytest.mark.filterwarnings("ignore")
def test_a_transformer_by_the_optimiser_for_them(tmp_path):
    optimizer = pytest.importorskip(
        "onnxruntime.transformers.optimizer", reason="this ONNX Runtime comes without it"
    )
    onnx.save(bert(), tmp_path / "bert.onnx")
    optimizer.optimize_model(
        str(tmp_path / "bert.onnx"), "bert", num_heads=2, hidden_size=8, opt_level=0
    ).save_model_to_file(str(tmp_path / "fused.onnx"))
    made = onnx.load(tmp_path / "fused.onnx")
    fused = {"Attention", "EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu"}
    assert {(DOMAIN, name) for name in fused} <= operators(made)
    embedded = next(n for n in made.graph.node if n.op_type == "EmbedLayerNormalization").output[0]
    kinds = {v.name: v.type.tensor_type.elem_type for v in made.graph.input}
    feeds = {
        n: v.astype(onnx.helper.tensor_dtype_to_np_dtype(kinds[n])) for n, v in sentence().items()
    }
    theirs = ox.explain(bert(), sentence(), wrt="embedded", target=1)
    for engine in ENGINES:
        e = ox.explain(made, feeds, wrt=embedded, target=1, engine=engine)
        assert np.abs(e.residual).max() < 1e-5
        assert np.allclose(e.attributions[embedded], theirs.attributions["embedded"], atol=1e-6)
        assert np.allclose(e.logits, theirs.logits, atol=1e-5)
