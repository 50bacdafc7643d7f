"""Small networks that between them hold every operator and every awkward arrangement of them."""

import numpy as np

from tests import nets_moving, nets_normalisation, nets_recurrent, nets_spatial
from tests.builders import convolutional, net, norm, weights


def nets():
    """Return every network by name."""
    return (
        {
            "relu": convolutional("a = Relu(h)"),
            "leaky": convolutional("a = LeakyRelu<alpha=0.2>(h)"),
            "leaky-default": convolutional("a = LeakyRelu(h)"),
            "sigmoid": convolutional("a = Sigmoid(h)"),
            "tanh": convolutional("a = Tanh(h)"),
            "clip": convolutional("a = Clip(h, low, high)", low=0.0, high=0.5),
            "clip-below": convolutional("a = Clip(h, low)", low=-0.1),
            "neg": convolutional("n = Neg(h)  a = Relu(n)"),
            "batchnorm": convolutional(
                "n = BatchNormalization(h, bn_scale, bn_b, bn_mean, bn_var)  a = Relu(n)",
                **norm(2, 6),
            ),
            "max-pool": convolutional(
                "r = Relu(h)  a = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)"
            ),
            "max-pool-overlapping": convolutional(
                "a = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(h)"
            ),
            "average-pool": convolutional(
                "a = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(h)"
            ),
            "average-pool-padding-counted": convolutional(
                "a = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], "
                "count_include_pad=1, ceil_mode=1>(h)"
            ),
            "global-max-pool": convolutional("a = GlobalMaxPool(h)"),
            "residual": convolutional(
                "r = Relu(h)  k = Conv<pads=[1,1,1,1]>(r, w2)  s = Add(k, r)  a = Relu(s)",
                **weights(3, w2=(6, 6, 3, 3)),
            ),
            "three-consumers": convolutional(
                "r = Relu(h)  t = Tanh(r)  s = Sigmoid(r)  a = Sum(r, t, s)"
            ),
            "concat": convolutional(
                "r = Relu(h)  k = Conv(r, w2, b2)  a = Concat<axis=1>(r, k)",
                channels=10,
                **weights(4, w2=(4, 6, 1, 1), b2=(4,)),
            ),
            "concat-with-constant": convolutional(
                "m = MaxPool<kernel_shape=[8,8]>(h)  a = Concat<axis=1>(m, k)",
                channels=8,
                k=np.array([0.5, -2.0], np.float32).reshape(1, 2, 1, 1),
            ),
            "squeeze-and-excite": convolutional(
                """p = GlobalAveragePool(h)  q = Conv(p, w1, b1)  r = Relu(q)  s = Conv(r, w2, b2)
               e = Sigmoid(s)  a = Mul(h, e)""",
                **weights(5, w1=(3, 6, 1, 1), b1=(3,), w2=(6, 3, 1, 1), b2=(6,)),
            ),
            "constant-add": convolutional(
                "a = Add(h, k)", k=np.linspace(-1, 1, 6).reshape(6, 1, 1)
            ),
            "constant-add-first": convolutional("a = Add(k, h)", k=0.25),
            "constant-sub": convolutional(
                "a = Sub(h, k)", k=np.linspace(-1, 1, 6).reshape(6, 1, 1)
            ),
            "constant-sub-first": convolutional("a = Sub(k, h)", k=0.75),
            "constant-mul": convolutional(
                "a = Mul(h, k)", k=np.linspace(-1, 1, 6).reshape(6, 1, 1)
            ),
            "constant-mul-map": convolutional(
                "a = Mul(h, k)", k=np.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
            ),
            "constant-div": convolutional(
                "a = Div(h, k)", k=np.linspace(0.5, 2, 6).reshape(6, 1, 1)
            ),
            "one-over": convolutional("s = Sigmoid(h)  a = Div(k, s)", k=0.5),
            "quotient": convolutional("s = Sigmoid(h)  a = Div(h, s)"),
            "square": convolutional("a = Mul(h, h)"),
            "pad-with-value": convolutional(
                "p = Pad(h, pads, value)  a = Relu(p)",
                pads=np.array([0, 0, 1, 0, 0, 0, 2, 1]),
                value=0.7,
            ),
            "softmax-inside": convolutional("s = Softmax<axis=1>(h)  a = Mul(s, h)"),
            "log-softmax-inside": convolutional("a = LogSoftmax<axis=1>(h)"),
            "reductions": net(
                """(float[N,3,4,4] x) => (float[N,4] y) {
                m = ReduceMean<keepdims=0>(x, axes)  s = ReduceSum<keepdims=1>(m, last)
                q = Squeeze(s, last)  y = Gemm(q, v, c) }""",
                axes=[3],
                last=[2],
                **weights(6, v=(3, 4), c=(4,)),
            ),
            "tokens": net(
                """(float[N,5,6] x) => (float[N,4] y) {
                t = Transpose<perm=[0,2,1]>(x)  q = MatMul(x, wq)  k = MatMul(wk, t)
                l = MatMul(q, k)  p = Softmax<axis=-1>(l)  o = MatMul(p, x)
                i = Identity(o)  u = Unsqueeze(i, one)  r = Reshape(u, shape)
                y = MatMul(r, v) }""",
                one=[1],
                shape=np.array([0, -1]),
                **weights(7, wq=(6, 6), wk=(6, 6), v=(30, 4)),
            ),
            "two-inputs": net(
                """(float[N,6] x, float[N,6] z) => (float[N,4] y) {
                p = Gemm(x, w1, b1)  r = Relu(p)  q = Gemm(z, w2)  s = Mul(r, q)
                y = Gemm<alpha=0.5, beta=2.0>(s, v, c) }""",
                **weights(8, w1=(6, 5), b1=(5,), w2=(6, 5), v=(5, 4), c=(4,)),
            ),
            "depthwise": convolutional(
                "k = Conv<group=6, strides=[2,2], pads=[0,1,1,0]>(h, w2, b2)  a = Relu(k)",
                **weights(9, w2=(6, 1, 3, 3), b2=(6,)),
            ),
            "blocked": net(  # channels by sixteens: the CPU provider's own layout
                """(float[N,3,8,8] x) => (float[N,4] y) {
                h = Conv<pads=[1,1,1,1]>(x, w, b)
                n = BatchNormalization(h, bn_scale, bn_b, bn_mean, bn_var)  r = Relu(n)
                k = Conv<pads=[1,1,1,1]>(r, w2, b2)  q = Relu(k)
                a = MaxPool<kernel_shape=[2,2], strides=[2,2]>(q)
                g = AveragePool<kernel_shape=[4,4]>(a)  f = Flatten(g)
                y = Gemm<transB=1>(f, v, c) }""",
                **weights(
                    1, w=(16, 3, 3, 3), b=(16,), w2=(16, 16, 3, 3), b2=(16,), v=(4, 16), c=(4,)
                ),
                **norm(2, 16),
            ),
            "prelu": convolutional("a = PRelu(h, slope)", **weights(5, slope=(6, 1, 1))),
            "prelu-of-itself": convolutional("t = Tanh(h)  a = PRelu(h, t)"),
            "pow": convolutional("s = Sigmoid(h)  a = Pow(s, p)", p=1.7),
            "pow-of-itself": convolutional("s = Sigmoid(h)  t = Tanh(h)  a = Pow(s, t)"),
            "extremes": convolutional("t = Tanh(h)  m = Max(h, t, k)  a = Min(m, t)", k=-0.2),
            "mean": convolutional("t = Tanh(h)  a = Mean(h, t, k)", k=0.3),
            "acosh": convolutional("p = Softplus(h)  q = Add(p, one)  a = Acosh(q)", one=1.0),
        }
        | {op.lower(): convolutional(f"a = {op}(h)") for op in ANYWHERE}
        | {op.lower(): convolutional(f"s = Sigmoid(h)  a = {op}(s)") for op in BETWEEN_0_AND_1}
    )


ANYWHERE = (
    "Abs Asinh Atan Cos Cosh Elu Celu Erf Exp HardSigmoid HardSwish Mish Selu Shrink Sin Sinh "
    "Softplus Softsign ThresholdedRelu"
).split()
BETWEEN_0_AND_1 = "Acos Asin Atanh Log Reciprocal Sqrt Tan".split()


NETS = (
    nets()
    | nets_moving.nets()
    | nets_normalisation.nets()
    | nets_recurrent.nets()
    | nets_spatial.nets()
)


def data(proto, n: int, seed: int = 0):
    """Return random inputs of a network for ``n`` samples, by name."""
    rng = np.random.default_rng(seed)
    held = {t.name for t in proto.graph.initializer}
    feeds = {}
    for value in proto.graph.input:
        if value.name not in held:
            shape = [d.dim_value or n for d in value.type.tensor_type.shape.dim]
            feeds[value.name] = rng.standard_normal(shape).astype(np.float32)
    return feeds
