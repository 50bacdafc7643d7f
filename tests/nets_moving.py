"""Small networks that move elements: cut, joined, repeated, picked by index, chosen."""

import numpy as np

from tests.builders import convolutional, net, weights


def scattered(node, index):
    """A model that puts slices of its input into it again, each feature a row."""
    return net(
        f"""(float[N,6] x) => (float[N,4] y) {{ t = Transpose<perm=[1,0]>(x)
        s = Slice(t, start, end)  u = Sigmoid(s)  w = {node}
        q = Transpose<perm=[1,0]>(w)  y = Gemm(q, v, c) }}""",
        start=[0],
        end=[len(index)],
        index=np.array(index),
        **weights(10, v=(6, 4), c=(4,)),
    )


def nets():
    """Return every network by name."""
    return {
        "slice": convolutional(
            "s = Slice(h, starts, ends, axes, steps)  a = Relu(s)",
            channels=3,
            starts=[4, -1],
            ends=[-9, 1],
            axes=[1, -1],
            steps=[-2, -2],
        ),
        "split": convolutional(
            """p, q, r = Split<axis=1>(h, sizes)  s = Sigmoid(q)  t = Mul(p, s)
            a = Concat<axis=1>(t, r)""",
            channels=4,
            sizes=[2, 2, 2],
        ),
        "split-unused": convolutional("p, a, r = Split<axis=1, num_outputs=3>(h)", channels=2),
        "expand": convolutional(
            "m = GlobalAveragePool(h)  e = Expand(m, shape)  a = Mul(h, e)", shape=[1, 1, 8, 8]
        ),
        "tile": convolutional(
            "m = MaxPool<kernel_shape=[4,4], strides=[4,4]>(h)  t = Tile(m, n)  a = Relu(t)",
            n=[1, 1, 2, 3],
        ),
        "where": convolutional(
            "q = Greater(h, k)  n = Neg(h)  a = Where(q, h, n)", k=np.float32(0.1)
        ),
        "where-constant": convolutional("q = Less(h, k)  a = Where(q, k, h)", k=np.float32(0.1)),
        "where-constant-second": convolutional(
            "q = Less(h, k)  a = Where(q, h, k)", k=np.float32(0.1)
        ),
        "trilu": convolutional("t = Trilu(h, k)  u = Trilu<upper=0>(h)  a = Sum(t, u)", k=1),
        "gather": convolutional(
            "p = Gather<axis=1>(h, index)  a = Relu(p)", channels=4, index=[5, 0, -1, 0]
        ),
        "gather-elements": net(
            """(float[N,6] x) => (float[N,4] y) { i = Sigmoid(x) t, at = TopK(i, two)
            e = GatherElements<axis=1>(x, at)  y = Gemm(e, v, c) }""",
            two=[2],
            **weights(11, v=(2, 4), c=(4,)),
        ),
        "gather-nd": net(
            """(float[N,3,4] x) => (float[N,4] y) { t = Transpose<perm=[1,2,0]>(x)
            p = GatherND(t, index)  q = Transpose<perm=[1,0]>(p)  y = Gemm(q, v, c) }""",
            index=np.array([[0, 1], [2, 3], [0, 1]]),
            **weights(12, v=(3, 4), c=(4,)),
        ),
        "top-k": net(
            """(float[N,6] x) => (float[N,4] y) { t, at = TopK<largest=0>(x, k)
            y = Gemm(t, v, c) }""",
            k=[3],
            **weights(13, v=(3, 4), c=(4,)),
        ),
        "scatter-elements": scattered("ScatterElements<axis=0>(t, index, u)", [[4], [1]]),
        "scatter-elements-add": scattered(
            'ScatterElements<axis=0, reduction="add">(t, index, u)', [[4], [4]]
        ),
        "scatter-elements-mul": scattered(
            'ScatterElements<axis=0, reduction="mul">(t, index, u)', [[4], [2]]
        ),
        "scatter-elements-max": scattered(
            'ScatterElements<axis=0, reduction="max">(t, index, u)', [[4], [2]]
        ),
        "scatter-nd": scattered("ScatterND(t, index, u)", [[4], [1]]),
        "scatter-nd-min": scattered('ScatterND<reduction="min">(t, index, u)', [[4], [1]]),
        "scatter-nd-into-constant": net(
            """(float[N,6] x) => (float[N,4] y) { t = Transpose<perm=[1,0]>(x)
            u = Slice(t, start, end)  s = ScatterND(k, index, u)  w = Add(s, t)
            q = Transpose<perm=[1,0]>(w)  y = Gemm(q, v, c) }""",
            k=np.linspace(-1, 1, 6).reshape(6, 1),
            index=np.array([[3], [0]]),
            start=[0],
            end=[2],
            **weights(15, v=(6, 4), c=(4,)),
        ),
        "one-hot": net(
            """(float[N,2] x) => (float[N,4] y) { t = Flatten<axis=0>(x)
            values = Squeeze(t, zero)  o = OneHot(k, depth, values)  y = Gemm(o, v, c) }""",
            zero=[0],
            k=[2],
            depth=4,
            **weights(16, v=(4, 4), c=(4,)),
        ),
        "tensor-scatter": net(
            """(float[N,5,2] x) => (float[N,4] y) { u = Slice(x, start, end, one)
            r = Relu(u)  s = TensorScatter<axis=1, mode="circular">(x, r, at)  f = Flatten(s)
            y = Gemm(f, v, c) }""",
            opset=24,
            start=[0],
            end=[3],
            one=[1],
            at=[4],
            **weights(17, v=(10, 4), c=(4,)),
        ),
        "mod-by-constant": convolutional("a = Mod<fmod=1>(h, k)", k=np.float32(0.3)),
        "mod": convolutional("r = Sigmoid(h)  a = Mod<fmod=1>(h, r)"),
        "mod-of-constant": convolutional("r = Sigmoid(h)  a = Mod<fmod=1>(k, r)", k=0.9),
        "cast-like": convolutional("l = CastLike(h, x)  a = Relu(l)"),
        "reverse-sequence": net(
            """(float[N,5,2] x) => (float[N,4] y) { t = Transpose<perm=[1,2,0]>(x)
            r = ReverseSequence<batch_axis=1, time_axis=0>(t, lens)
            q = Transpose<perm=[2,0,1]>(r)  f = Flatten(q)  y = Gemm(f, v, c) }""",
            lens=[3, 5],
            **weights(14, v=(10, 4), c=(4,)),
        ),
    }
