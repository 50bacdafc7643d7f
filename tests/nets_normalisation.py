"""Small networks that normalise, reduce, run along an axis, contract and attend."""

import numpy as np

from tests.builders import convolutional, net, weights


def nets():
    """Return every network by name."""
    return normalising() | reducing() | attending()


def normalising():
    """Return networks with a normalisation each."""
    six = weights(31, s=(6,), t=(6,))
    return {
        "layer-norm": convolutional(
            "n = LayerNormalization<axis=1>(h, s, t)  a = Relu(n)",
            **weights(30, s=(6, 8, 8), t=(6, 8, 8)),
        ),
        "layer-norm-statistics": convolutional(
            "n, m, i = LayerNormalization<axis=2>(h, s)  p = Mul(n, i)  a = Sub(p, m)",
            **weights(30, s=(8, 8)),
        ),
        "rms-norm": convolutional(
            "n = RMSNormalization<axis=-2>(h, s)  a = Relu(n)", opset=23, **weights(30, s=(8, 8))
        ),
        "instance-norm": convolutional("n = InstanceNormalization(h, s, t)  a = Relu(n)", **six),
        "group-norm": convolutional(
            "n = GroupNormalization<num_groups=3>(h, s, t)  a = Relu(n)", opset=21, **six
        ),
        "group-norm-by-group": convolutional(
            "n = GroupNormalization<num_groups=3>(h, s, t)  a = Relu(n)",
            opset=18,
            **weights(31, s=(3,), t=(3,)),
        ),
        "mean-variance": convolutional("n = MeanVarianceNormalization<axes=[1,3]>(h)  a = Relu(n)"),
        "unit-length": convolutional("n = LpNormalization<axis=1>(h)  a = Relu(n)"),
        "unit-sum": convolutional("n = LpNormalization<axis=2, p=1>(h)  a = Relu(n)"),
        "lrn": convolutional("n = LRN<size=5, alpha=0.5, bias=1.5>(h)  a = Relu(n)"),
        "masked-softmax": convolutional(
            "m = Add(h, k)  s = Softmax(m)  a = Mul(s, h)",
            k=np.where(np.arange(64).reshape(8, 8) % 3, 0, -np.inf).astype(np.float32),
        ),
        "hardmax": convolutional("m = Hardmax<axis=1>(h)  a = Mul(m, h)"),
    }


def reducing():
    """Return networks with a reduction, or a running sum, each."""
    over = {"axes": [1]}
    plain = "ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp"
    return {
        op.lower(): convolutional(f"a = {op}(h, axes)", channels=1, **over) for op in plain.split()
    } | {
        "reducelogsum": convolutional(
            "p = Softplus(h)  r = ReduceLogSum<keepdims=0>(p, axes)  a = Unsqueeze(r, axes)",
            channels=1,
            **over,
        ),
        "cumsum": convolutional("s = CumSum<exclusive=1, reverse=1>(h, axis)  a = Relu(s)", axis=2),
        "cumprod": convolutional("s = CumProd(h, axis)  a = Tanh(s)", opset=26, axis=-1),
        "cumprod-before": convolutional(
            "s = CumProd<exclusive=1, reverse=1>(h, axis)  a = Tanh(s)", opset=26, axis=1
        ),
    }


def attending():
    """Return networks that contract and attend."""
    read = "r = ReduceMean<keepdims=0>(z, one)  y = Gemm(r, v, c) }"
    return {
        "einsum": net(
            f"""(float[N,5,6] x) => (float[N,4] y) {{ t = Tanh(x)
            s = Einsum<equation="...id,...jd->...ij">(x, t)
            z = Einsum<equation="nij,njd,d->nid">(s, x, k)  {read}""",
            one=[1],
            **weights(32, k=(6,), v=(6, 4), c=(4,)),
        ),
        "einsum-diagonal": net(
            f"""(float[N,5,5] x) => (float[N,4] y) {{ d = Einsum<equation="nii->in">(x)
            z = Einsum<equation="in,njk->nij">(d, x)  {read}""",
            one=[1],
            **weights(33, v=(5, 4), c=(4,)),
        ),
        "attention": net(
            f"""(float[N,5,8] x) => (float[N,4] y) {{
            q = MatMul(x, wq)  k = MatMul(x, wk)  w = Tanh(x)
            z = Attention<q_num_heads=4, kv_num_heads=2, is_causal=1>(q, k, w)  {read}""",
            opset=23,
            one=[1],
            **weights(34, wq=(8, 16), wk=(8, 8), v=(16, 4), c=(4,)),
        ),
    }
