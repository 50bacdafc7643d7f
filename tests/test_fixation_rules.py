"""CNN fixations node by node: against plain loops, and where a planted path must lead."""

import itertools

import numpy as np
import pytest
from onnx import helper, numpy_helper

import onnxexplain as ox
from tests.builders import in_float64, net, norm, weights
from tests.fixations_by_loops import fixations

# ----- Against plain loops -----


def drawn(seed):
    """Return a random network of every kind of node the paper walks through, and its classes."""
    rng = np.random.default_rng(seed)
    nodes, held, channels, count = [], {}, 3, 0
    last = "x"

    def name(kind):
        nonlocal count
        count += 1
        return f"{kind}{count}"

    def conv(x, inner, outer, kernel, group=1, **attributes):
        w, b, y = name("w"), name("b"), name("conv")
        held[w] = rng.standard_normal((outer, inner // group, *kernel))
        held[b] = rng.standard_normal(outer)
        nodes.append(helper.make_node("Conv", [x, w, b], [y], group=group, **attributes))
        return y

    def made(kind, *inputs, **attributes):
        y = name(kind.lower())
        nodes.append(helper.make_node(kind, list(inputs), [y], **attributes))
        return y

    def normed(x):
        names = [name(part) for part in ("scale", "b", "mean", "var")]
        parts = norm(int(rng.integers(1000)), channels).values()
        held.update(zip(names, parts, strict=True))
        return made("BatchNormalization", x, *names)

    for _ in range(4):
        kind = rng.choice(["conv", "grouped", "residual", "concat", "pool", "norm"])
        if kind == "conv":
            stride, dilation = int(rng.integers(1, 3)), int(rng.integers(1, 3))
            outer = int(rng.integers(2, 5)) * 2
            last = made(
                "Relu",
                conv(
                    last,
                    channels,
                    outer,
                    (3, 2),
                    pads=[2, 1, 0, 1],
                    strides=[stride, 1],
                    dilations=[1, dilation],
                ),
            )
            channels = outer
        elif kind == "grouped" and channels % 2 == 0:
            last = made("LeakyRelu", conv(last, channels, channels, (3, 3), 2, pads=[1] * 4))
        elif kind == "residual":
            inner = made("Relu", conv(last, channels, 4, (1, 1)))
            delta = conv(inner, 4, channels, (3, 3), pads=[1] * 4)
            pair = [delta, last] if rng.random() < 0.5 else [last, delta]
            last = made("Relu", made("Add", *pair))
        elif kind == "concat":
            one = made("Relu", conv(last, channels, 2, (1, 1)))
            two = made("Relu", conv(last, channels, 3, (5, 5), pads=[2] * 4))
            last, channels = made("Concat", one, last, two, axis=1), channels + 5
        elif kind == "pool":
            op = rng.choice(["MaxPool", "AveragePool"])
            last = made(
                str(op),
                last,
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1, 0, 1, 1],
                ceil_mode=int(rng.integers(2)),
            )
        else:
            last = made("Relu", normed(conv(last, channels, channels, (3, 3), pads=[1] * 4)))
    head = rng.choice(["flat", "mean", "max", "deep"])
    if head in ("mean", "deep"):
        last = made("GlobalAveragePool", last)
    if head == "max":
        last = made("GlobalMaxPool", last)
    flat = made("Flatten", last)
    return nodes, held, flat, str(head), rng


def random_net(seed):
    """Return such a network with its dense head; the head's width is found by running it."""
    nodes, held, flat, head, rng = drawn(seed)
    x = rng.standard_normal((1, 3, 13, 12)).astype(np.float32)
    width = in_float64(model(nodes, held, flat), {"x": x.astype(np.float64)}, flat).size
    sizes = [width, 7, 6, 4] if head == "deep" else [width, 4]
    last = flat
    for i, (inner, outer) in enumerate(itertools.pairwise(sizes)):
        held[f"fc{i}"] = rng.standard_normal((outer, inner))
        end = "y" if i == len(sizes) - 2 else f"dense{i}"
        nodes.append(helper.make_node("Gemm", [last, f"fc{i}"], [end], transB=1))
        last = end
        if end != "y":
            nodes.append(helper.make_node("Relu", [end], [f"relu_{end}"]))
            last = f"relu_{end}"
    return model(nodes, held, "y"), x


def model(nodes, held, output):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 13, 12])],
        [helper.make_tensor_value_info(output, 1, None)],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("seed", "locate"),
    [
        *((seed, "contribution") for seed in range(12)),
        *((seed, "activation") for seed in range(12, 16)),
        *((seed, "centre") for seed in range(16, 20)),
    ],
)
def test_plain_loops_find_the_same(seed, locate):
    proto, x = random_net(seed)
    for target in range(2):
        expected = fixations(proto, x, (0, target), locate)
        for dtype in ("float64", "float32"):
            e = ox.explain(
                proto,
                x,
                "cnn-fixations",
                target=target,
                locate=locate,
                outliers=False,
                dtype=dtype,
                layers="all",
            )
            for name in e.layers:
                theirs = {index for index, _ in expected.get(name, ())}
                ours = {tuple(map(int, i)) for i in np.argwhere(e.layers[name].score)}
                assert ours == theirs, name
            assert [tuple(p) for p in e.points[0]] == sorted({i[2:] for i, _ in expected["x"]})


# ----- A planted path gives the planted pixel -----


def one_hot(shape, *places):
    """Return zeros with ones at some places."""
    w = np.zeros(shape, np.float32)
    for place in places:
        w[place] = 1
    return w


def ended(proto, x, target, **options):
    """Return the points of the first sample as a list of tuples."""
    e = ox.explain(proto, x, "cnn-fixations", target=target, outliers=False, **options)
    return [tuple(map(int, p)) for p in e.points[0]]


def bright(rng, *shape):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("stride", "dilation", "pad", "group", "tap", "channel"),
    [
        (1, 1, 1, 1, (0, 2), 1),
        (2, 1, 1, 1, (1, 2), 0),
        (2, 1, 0, 2, (2, 0), 1),
        (1, 2, 2, 1, (0, 1), 3),
        (3, 2, 1, 2, (2, 2), 0),
    ],
)
def test_one_hot_kernels_name_the_pixel(rng, stride, dilation, pad, group, tap, channel):
    """Every position of a convolution's output leads to the one pixel its kernel looks at."""
    w = one_hot((4, 4 // group, 3, 3), (2, channel, *tap))
    proto = net(
        f"""(float[N,4,11,11] x) => (float[N,4,M,M] y) {{
            y = Conv<strides=[{stride},{stride}], dilations=[{dilation},{dilation}],
                     pads=[{pad},{pad},{pad},{pad}], group={group}>(x, w) }}""",
        w=w,
    )
    x = bright(rng, 1, 4, 11, 11)
    side = (11 + 2 * pad - 2 * dilation - 1) // stride + 1
    pixels = {
        (2, y, z): tuple(p * stride - pad + t * dilation for p, t in zip((y, z), tap, strict=True))
        for y, z in np.ndindex(side, side)
    }
    seen = {at: p for at, p in pixels.items() if min(p) >= 0 and max(p) <= 10}
    assert len(seen) >= 4
    e = ox.explain(proto, x, "cnn-fixations", targets=list(seen))
    first = 2 // (4 // group) * (4 // group)
    for t, pixel in enumerate(seen.values()):
        assert [tuple(p) for p in e.points[t][0]] == [pixel]
        assert np.argwhere(e.attributions["x"][t]).tolist() == [[0, first + channel, *pixel]]


@pytest.mark.parametrize("rank", [1, 3])
def test_signals_and_volumes(rng, rank):
    sizes, kernel = (9, 8, 7)[:rank], (3,) * rank
    tap = (2, 0, 1)[:rank]
    dims = ",".join(map(str, sizes))
    proto = net(
        f"""(float[N,2,{dims}] x) => (float[N,1] y) {{
            c = Conv<strides={[2] * rank}>(x, w)  r = Relu(c)
            f = Flatten(r)  y = Gemm<transB=1>(f, v) }}""",
        w=one_hot((1, 2, *kernel), (0, 1, *tap)),
        v=one_hot((1, np.prod([(n - 3) // 2 + 1 for n in sizes])), (0, 1)),
    )
    x = bright(rng, 1, 2, *sizes)
    e = ox.explain(proto, x, "cnn-fixations", target=0)
    last = (0,) * (rank - 1) + (2,)  # the second place in row-major order, times the stride
    assert e.points[0].tolist() == [[p + t for p, t in zip(last, tap, strict=True)]]
    assert e.heatmap().shape == (1, *sizes)


def test_pools_go_to_their_largest(rng):
    for pool in ("MaxPool", "AveragePool"):
        proto = net(
            f"""(float[N,1,7,7] x) => (float[N,1,M,M] y) {{
                y = {pool}<kernel_shape=[3,3], strides=[3,3], pads=[1,0,1,0], ceil_mode=1>(x) }}"""
        )
        x = bright(rng, 1, 1, 7, 7)
        for y, z in np.ndindex(3, 3):
            rows = slice(max(3 * y - 1, 0), 3 * y + 2)
            part = x[0, 0, rows, 3 * z : 3 * z + 3]
            best = np.unravel_index(part.argmax(), part.shape)
            assert ended(proto, x, (0, y, z), head="strongest") == [
                (best[0] + rows.start, best[1] + 3 * z)
            ]


def test_padding_never_wins(rng):
    """The window at the corner sees one pixel, two steps in; its other places are padding."""
    proto = net(
        """(float[N,1,4,4] x) => (float[N,1,M,M] y) {
            y = MaxPool<kernel_shape=[2,2], dilations=[2,2], pads=[1,1,0,0]>(x) }"""
    )
    x = bright(rng, 1, 1, 4, 4)
    x[0, 0, 0] = x[0, 0, :, 0] = 9
    assert ended(proto, x, (0, 0, 0)) == [(1, 1)]


def test_a_maximum_before_a_mean_still_has_one_winner(rng):
    proto = net(
        """(float[N,1,4,4] x) => (float[N,1,1,1] y) {
            m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)  y = GlobalAveragePool(m) }"""
    )
    assert len(ended(proto, bright(rng, 1, 1, 4, 4), 0)) == 4


# ----- Residual, concatenated, normalised -----

RESIDUAL = """(float[N,2,6,6] x) => (float[N,2,6,6] y) {{
    a = Conv<pads=[1,1,1,1]>(x, w)  b = Relu(a)  d = Conv<pads=[1,1,1,1]>(b, v)
    s = Add({})  y = Relu(s) }}"""


@pytest.mark.parametrize("order", ["d, x", "x, d"])
def test_a_residual_block_that_adds_nothing_is_the_identity(rng, order):
    proto = net(
        RESIDUAL.format(order), w=rng.standard_normal((2, 2, 3, 3)), v=np.zeros((2, 2, 3, 3))
    )
    x = bright(rng, 1, 2, 6, 6)
    x[0, 1, 2, 3] = 0  # a tie: the skip too adds nothing
    for place in [(1, 2, 3), (0, 5, 0)]:
        e = ox.explain(proto, x, "cnn-fixations", target=place)
        assert np.argwhere(e.attributions["x"]).tolist() == [[0, *place]]


@pytest.mark.parametrize("order", ["d, x", "x, d"])
def test_a_residual_block_is_followed_where_it_adds_more(rng, order):
    w = one_hot((2, 2, 3, 3), (0, 1, 0, 0))
    v = 9 * one_hot((2, 2, 3, 3), (1, 0, 2, 1))
    x = bright(rng, 1, 2, 6, 6)
    e = ox.explain(net(RESIDUAL.format(order), w=w, v=v), x, "cnn-fixations", target=(1, 2, 3))
    assert np.argwhere(e.attributions["x"]).tolist() == [[0, 1, 2, 2]]


def test_a_broadcast_addend_is_read_where_it_was_repeated(rng):
    """Both move; the one that is a number per channel wins at one place, and names its winner."""
    proto = net(
        """(float[N,2,5,5] x) => (float[N,2,5,5] y) {
            m = GlobalMaxPool(x)  h = Mul(m, half)  y = Add(x, h) }""",
        half=0.5,
    )
    x = bright(rng, 1, 2, 5, 5)
    x[0, 1, 3, 2], x[0, 1, 0, 0] = 9, 0.1
    assert ended(proto, x, (1, 0, 0)) == [(3, 2)]  # 4.5 against 0.1
    assert ended(proto, x, (1, 3, 2)) == [(3, 2)]  # 9 against 4.5: the same pixel, by the skip


def test_subtraction_turns_what_is_looked_for_round(rng):
    proto = net(
        """(float[N,1,4,4] x) => (float[N,1,2,2] y) {
            a = AveragePool<kernel_shape=[3,3]>(x)  y = Sub(k, a) }""",
        k=0.3,
    )
    x = bright(rng, 1, 1, 4, 4)
    part = x[0, 0, 1:4, 1:4]
    best = np.unravel_index(part.argmin(), part.shape)  # what makes `k - mean` large
    assert ended(proto, x, (0, 1, 1), head="strongest") == [(best[0] + 1, best[1] + 1)]


def test_a_dense_block_hands_on_by_channel_range(rng):
    """Each channel of the last concatenation leads into the layer that made it."""
    proto = net(
        """(float[N,2,8,8] x) => (float[N,4,4,4] y) {
            a = Conv<pads=[1,1,1,1]>(x, wa)  ra = Relu(a)  one = Concat<axis=1>(x, ra)
            b = Conv<pads=[1,1,1,1]>(one, wb)  rb = Relu(b)  two = Concat<axis=1>(one, rb)
            y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(two) }""",
        wa=one_hot((1, 2, 3, 3), (0, 1, 0, 2)),
        wb=one_hot((1, 3, 3, 3), (0, 2, 2, 0)),
    )
    x = bright(rng, 1, 2, 8, 8)

    def best(values, y, z):
        part = values[2 * y : 2 * y + 2, 2 * z : 2 * z + 2]
        return np.add(np.unravel_index(part.argmax(), (2, 2)), (2 * y, 2 * z))

    made = ox.explain(proto, x, "cnn-fixations", target=(0, 1, 1), layers="all").layers
    for channel, moved in [(0, (0, 0)), (1, (0, 0)), (2, (-1, 1)), (3, (0, 0))]:
        pixel = best(made["two"].activation[0, channel], 1, 2) + moved
        assert ended(proto, x, (channel, 1, 2), head="strongest") == [tuple(pixel)]


def test_moved_elements_are_found_again(rng):
    """Cut, turned, split, repeated, enlarged, padded and joined: each element has its one pixel."""
    proto = net(
        """(float[N,2,4,6] x) => (float[N,2,6,8] y) {
            t = Transpose<perm=[0,1,3,2]>(x)  c = Slice(t, from, to, axes, steps)
            a, b = Split<axis=1, num_outputs=2>(c)  j = Concat<axis=1>(b, a)
            r = Resize<mode="nearest">(j, none, scales)  y = Pad(r, pads) }""",
        **{"from": np.array([4]), "to": np.array([0]), "axes": np.array([2])},
        steps=np.array([-2]),
        none=np.zeros(0, np.float32),
        scales=np.float32([1, 1, 2, 2]),
        pads=np.array([0, 0, 1, 0, 0, 0, 1, 0]),
    )
    x = bright(rng, 1, 2, 4, 6)
    made = in_float64(proto, {"x": x.astype(np.float64)}, "y")
    places = [(c, y, z) for c in range(2) for y in (1, 2, 3, 4) for z in (0, 3, 7)]
    e = ox.explain(proto, x, "cnn-fixations", targets=places)
    for t, place in enumerate(places):
        (source,) = np.argwhere(e.attributions["x"][t])
        assert x[tuple(source)] == np.float32(made[(0, *place)])
    padding = ox.explain(proto, x, "cnn-fixations", target=(0, 0, 3))
    assert padding.points[0].shape == (0, 2)


@pytest.mark.parametrize("between", ["n = BatchNormalization(c, s, b, m, v)", "n = Mul(c, k)"])
def test_a_negative_scale_turns_the_contributions_round(rng, between):
    """As if it were folded into the weights of the convolution before."""
    w = rng.standard_normal((2, 3, 3, 3)).astype(np.float32)
    scale = np.float32([-2, 1.5])
    proto = net(
        f"(float[N,3,7,7] x) => (float[N,2,5,5] y) {{ c = Conv(x, w)  {between}  y = Relu(n) }}",
        w=w,
        s=scale,
        b=np.zeros(2),
        m=np.zeros(2),
        v=np.ones(2),
        k=scale.reshape(2, 1, 1),
    )
    folded = net(
        "(float[N,3,7,7] x) => (float[N,2,5,5] y) { c = Conv(x, w)  y = Relu(c) }",
        w=w * scale.reshape(2, 1, 1, 1),
    )
    x = rng.standard_normal((1, 3, 7, 7)).astype(np.float32)
    places = [(o, y, z) for o in range(2) for y in range(5) for z in range(5)]
    plain = net("(float[N,3,7,7] x) => (float[N,2,5,5] y) { y = Conv(x, w) }", w=w)
    found, expected, other = (
        ox.explain(model, x, "cnn-fixations", targets=places).attributions["x"]
        for model in (proto, folded, plain)
    )
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, other)


@pytest.mark.parametrize(
    "node",
    [
        "BatchNormalization(c, s, b, m, v)",
        "InstanceNormalization(c, s, b)",
        "GroupNormalization<num_groups=2>(c, s, b)",
        "LayerNormalization<axis=1>(c, planes)",
    ],
)
def test_every_normalisation_turns_with_its_scale(rng, node):
    """Channel 1 is scaled by -1: where it is looked for large, its smallest mean's least is."""
    scale = np.float32([1, -1])
    proto = net(
        f"""(float[N,2,6,6] x) => (float[N,2,2,2] y) {{
            c = AveragePool<kernel_shape=[3,3], strides=[3,3]>(x)  y = {node} }}""",
        opset=21,
        s=scale,
        b=np.zeros(2),
        m=np.zeros(2),
        v=np.ones(2),
        planes=np.broadcast_to(scale[:, None, None], (2, 2, 2)).copy(),
    )
    x = bright(rng, 1, 2, 6, 6)
    for channel, best in [(0, np.argmax), (1, np.argmin)]:
        pixel = np.unravel_index(best(x[0, channel, 3:, :3]), (3, 3))
        found = ended(proto, x, (channel, 1, 0), head="strongest")
        assert found == [(pixel[0] + 3, pixel[1])]


# ----- Dense layers -----


def test_a_dense_layer_hands_on_to_all_that_speak_for_it():
    """By hand: 0 and 2 speak for class 0; of the hidden units 1 rests on 3 alone."""
    proto = net(
        """(float[N,4] x) => (float[N,2] y) {
            h = Gemm<transB=1>(x, w)  r = Relu(h)  y = MatMul(r, v) }""",
        w=[[1.0, -1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
        v=[[2.0, -1.0], [-1.0, 1.0]],
    )
    x = np.float32([[1, 0.5, 2, 3]])
    e = ox.explain(proto, x, "cnn-fixations", targets="all", layers=["r"])
    assert [p.tolist() for row in e.points for p in row] == [[[0], [2]], [[3]]]
    assert e.layers["r"].score.tolist() == [[[1, 0]], [[0, 1]]]
    assert e.heatmap().tolist() == [[[1, 0, 1, 0]], [[0, 0, 0, 1]]]


def test_the_strongest_may_be_kept_alone():
    """Contributions 4, 3, 2, 1 and -5: the first two make up seven tenths of what speaks for it."""
    dense = net("(float[N,5] x) => (float[N,1] y) { y = MatMul(x, w) }", w=np.ones((5, 1)))
    x = np.float32([[1, -5, 4, 2, 3]])
    for keep, left in [(1.0, [0, 2, 3, 4]), (0.71, [2, 3, 4]), (0.7, [2, 4]), (0.01, [2])]:
        assert ended(dense, x, 0, keep=keep) == [(i,) for i in left]
    head = net(
        "(float[N,5,1,2] x) => (float[N,1,1,1] y) { c = Conv(x, w)  y = GlobalAveragePool(c) }",
        w=np.ones((1, 5, 1, 1)),
    )
    e = ox.explain(head, np.stack([x, x / 2], -1)[:, :, None], "cnn-fixations", keep=0.7)
    assert np.argwhere(e.attributions["x"]).tolist() == [[0, 2, 0, 0], [0, 4, 0, 0]]


X = np.random.default_rng(5).standard_normal((1, 5, 6)).astype(np.float32)
W = np.random.default_rng(6).standard_normal((6, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("node", "target", "given"),
    [
        ("y = MatMul(x, w)", (3, 2), {(3, k): X[0, 3, k] * W[k, 2] for k in range(6)}),
        ("y = MatMul(w, x)", (3, 2), {(k, 2): W[3, k] * X[0, k, 2] for k in range(5)}),
        (
            "f = Reshape(x, row)  v = Reshape(w, all)  m = MatMul(f, v)  y = Unsqueeze(m, one)",
            0,
            {(k // 6, k % 6): X.ravel()[k] * W.ravel()[k] for k in range(30)},
        ),
        (
            "f = Reshape(x, column)  v = Reshape(w, column)  y = Gemm<transA=1, alpha=-2.0>(f, v)",
            0,
            {(k // 6, k % 6): -X.ravel()[k] * W.ravel()[k] for k in range(30)},
        ),
    ],
)
def test_every_way_to_write_a_product(node, target, given):
    """Constant on either side, matrices among more axes, vectors, Gemm's transposed input."""
    sizes = {"row": np.array([1, 30]), "all": np.array([30]), "column": np.array([30, 1])}
    proto = net(f"(float[1,5,6] x) => (float[N,M] y) {{ {node} }}", w=W, one=np.array([1]), **sizes)
    e = ox.explain(proto, X, "cnn-fixations", target=target, outliers=False)
    found = {tuple(map(int, p[1:])) for p in np.argwhere(e.attributions["x"])}
    if "MatMul(x, w)" in node or "MatMul(w, x)" in node or "Gemm" in node:
        assert found == {place for place, value in given.items() if value > 0}
    else:  # the row was made of positions and channels: one of them is named
        assert found == {max(given, key=given.get)}


@pytest.mark.parametrize(
    ("node", "axes"),
    [
        ("ReduceMean<keepdims=0>(x, places)", (2, 3)),
        ("ReduceSum(x, last)", (3,)),
        ("ReduceMean(x)", (0, 1, 2, 3)),
        ("ReduceMean<noop_with_empty_axes=1>(x)", ()),
        ("GlobalAveragePool(x)", (2, 3)),
        ("GlobalMaxPool(x)", (2, 3)),
    ],
)
def test_reductions_go_to_the_largest_of_what_they_reduce(rng, node, axes):
    x = rng.standard_normal((1, 3, 5, 6)).astype(np.float32)
    proto = net(
        f"(float[N,3,5,6] x) => (float[N,M] y) {{ y = {node} }}",
        places=np.array([2, 3]),
        last=np.array([-1]),
    )
    made = in_float64(proto, {"x": x.astype(np.float64)}, "y").shape
    for index in itertools.islice(np.ndindex(made), 0, None, 7):
        left = iter(index)
        own = [next(left) if a not in axes or len(made) == 4 else 0 for a in range(4)]
        where = tuple(slice(None) if a in axes else i for a, i in enumerate(own))
        part = np.where(one_hot(x.shape, where) > 0, x, -np.inf)
        best = np.unravel_index(part.argmax(), x.shape)
        seed = one_hot(made, index)
        e = ox.explain(proto, x, "cnn-fixations", target=seed, head="strongest")
        assert np.argwhere(e.attributions["x"]).tolist() == [list(best)]


@pytest.mark.parametrize(
    ("node", "turns"),
    [
        ("Neg(a)", True),
        ("Sub(k, a)", True),
        ("Mul(a, k)", True),
        ("Div(a, k)", True),
        ("Div(k, a)", False),
        ("Div(m, a)", True),
        ("Reciprocal(a)", True),
        ("Sigmoid(a)", False),
        ("LeakyRelu(a)", False),
        ("Softmax<axis=1>(a)", False),
    ],
)
def test_what_falls_as_its_input_rises_looks_for_the_smallest(rng, node, turns):
    """``a`` is a mean: its largest element makes it large, its least one small."""
    proto = net(
        f"""(float[N,1,4,5] x) => (float[N,1,1,1] y) {{
            a = AveragePool<kernel_shape=[4,5]>(x)  y = {node} }}""",
        k=-2.0,
        m=2.0,
    )
    x = bright(rng, 1, 1, 4, 5)
    best = x.argmin() if turns else x.argmax()
    assert ended(proto, x, 0, head="strongest") == [divmod(int(best), 5)]


def test_the_absolute_value_of_what_is_negative_turns_round(rng):
    proto = net(
        """(float[N,1,4,5] x) => (float[N,1,1,1] y) {
            a = AveragePool<kernel_shape=[4,5]>(x)  y = Abs(a) }"""
    )
    x = bright(rng, 1, 1, 4, 5)
    assert ended(proto, x, 0, head="strongest") == [divmod(int(x.argmax()), 5)]
    assert ended(proto, -x, 0, head="strongest") == [divmod(int((-x).argmin()), 5)]


def test_a_quotient_is_followed_by_its_numerator(rng):
    """By a map that a statistic of it divides, and where the divisor is the shorter way too."""
    normed = net(
        """(float[N,2,5,5] x) => (float[N,2,5,5] y) {
            m = ReduceMean<keepdims=1>(x, channels)  s = Sqrt(m)  y = Div(x, s) }""",
        channels=np.array([1]),
    )
    x = bright(rng, 1, 2, 5, 5)
    assert ended(normed, x, (1, 2, 3)) == [(2, 3)]
    pooled = net(
        """(float[N,2,5,5] x) => (float[N,2,5,5] y) {
            m = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)  y = Div(m, x) }"""
    )
    x[0, 1, 3, 4] = 9
    assert ended(pooled, x, (1, 2, 3)) == [(3, 4)]


def test_a_flattened_map_gives_one_position(rng):
    """Of all places of all channels, through what lies between the flatten and the weights too."""
    x = bright(rng, 1, 3, 4, 5)
    v = rng.standard_normal((2, 60)).astype(np.float32)
    for body in (
        "f = Flatten(x)  y = Gemm<transB=1>(f, v)",
        "f = Reshape(x, shape)  r = Relu(f)  m = Mul(r, k)  y = MatMul(m, vt)",
    ):
        proto = net(
            f"(float[N,3,4,5] x) => (float[N,2] y) {{ {body} }}",
            v=v,
            vt=v.T.copy(),
            shape=np.array([-1, 60]),
            k=1.0,
        )
        for target in range(2):
            e = ox.explain(proto, x, "cnn-fixations", target=target)
            best = (v[target] * x.reshape(-1)).argmax()
            assert np.flatnonzero(e.attributions["x"]).tolist() == [best]


def test_a_window_over_padding_alone_ends_nowhere(rng):
    """Its value is the bias: no pixel has a part in it."""
    conv = net(
        "(float[N,1,5,5] x) => (float[N,1,M,M] y) { y = Conv<pads=[3,3,0,0]>(x, w) }",
        w=np.ones((1, 1, 2, 2)),
    )
    assert ended(conv, bright(rng, 1, 1, 5, 5), (0, 0, 0)) == []
    assert ended(conv, bright(rng, 1, 1, 5, 5), (0, 2, 2)) == [(0, 0)]
    pool = net(
        """(float[N,1,1,1] x) => (float[N,1,1,1] y) {
            y = MaxPool<kernel_shape=[2,2], dilations=[2,2], pads=[1,1,1,1]>(x) }"""
    )
    assert ended(pool, bright(rng, 1, 1, 1, 1), 0) == []


def test_a_negative_unit_is_explained_by_what_made_it_negative():
    """The hidden unit is -1, and its weight too: looked for is what pulled it below zero."""
    proto = net(
        "(float[N,2] x) => (float[N,1] y) { h = MatMul(x, w)  y = MatMul(h, v) }",
        w=[[1.0], [-2.0]],
        v=[[-1.0]],
    )
    assert ended(proto, np.ones((1, 2), np.float32), 0) == [(1,)]


def test_where_nothing_speaks_for_it_the_least_opposed_is_kept(rng):
    x = bright(rng, 1, 3, 5, 5)
    w = -bright(rng, 1, 3, 3, 3)
    conv = net("(float[N,3,5,5] x) => (float[N,1,3,3] y) { y = Conv(x, w) }", w=w)
    given = x[0, :, 1:4, 2:5] * w[0]
    channel = given.sum(axis=(1, 2)).argmax()
    y, z = np.unravel_index(given[channel].argmax(), (3, 3))
    assert ended(conv, x, (0, 1, 2)) == [(y + 1, z + 2)]
    dense = net("(float[N,6] x) => (float[N,1] y) { y = MatMul(x, w) }", w=w.reshape(-1)[:6, None])
    row = x.reshape(-1)[:6]
    assert ended(dense, row[None], 0) == [((row * w.reshape(-1)[:6]).argmax(),)]


def test_of_equals_the_first_is_taken():
    ones = np.ones((1, 2, 5, 5), np.float32)
    for op, weight in (("Conv", ", w"), ("MaxPool<kernel_shape=[3,3]>", "")):
        proto = net(
            f"(float[N,2,5,5] x) => (float[N,M,3,3] y) {{ y = {op}(x{weight}) }}",
            w=np.ones((1, 2, 3, 3)),
        )
        e = ox.explain(proto, ones, "cnn-fixations", target=(0, 1, 2))
        assert np.argwhere(e.attributions["x"]).tolist() == [[0, 0, 1, 2]]


def test_means_behind_the_last_weights_are_a_dense_layer_of_means(rng):
    """SqueezeNet's head gives what the same model with its mean before its weights gives."""
    body = "(float[N,3,8,8] x) => (float[N,4{0}] y) {{ h = Conv(x, w)  a = Relu(h)  {1} }}"
    held = weights(1, w=(12, 3, 3, 3), v=(4, 12, 1, 1))
    last = net(body.format(",1,1", "c = Conv(a, v)  y = GlobalAveragePool(c)"), **held)
    first = net(
        body.format("", "g = GlobalAveragePool(a)  f = Flatten(g)  y = Gemm<transB=1>(f, v)"),
        **(held | {"v": held["v"].reshape(4, 12)}),
    )
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    for target in range(4):
        found = ended(last, x, target)
        assert found == ended(first, x, target)
        strongest = ended(last, x, target, head="strongest")
        assert len(strongest) == 1 < len(found)
