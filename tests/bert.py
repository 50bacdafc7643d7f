"""A small BERT in standard operators, written as exporters write it: for optimisers to fuse."""

import numpy as np

from tests.builders import net, weights

WIDTH, HEADS, LENGTH = 8, 2, 5


def norm(x: str, y: str, p: str) -> str:
    """A layer normalisation in nine nodes."""
    return f"""{p}m = ReduceMean<axes=[-1]>({x})  {p}c = Sub({x}, {p}m)  {p}p = Pow({p}c, two)
        {p}v = ReduceMean<axes=[-1]>({p}p)  {p}e = Add({p}v, eps)  {p}s = Sqrt({p}e)
        {p}d = Div({p}c, {p}s)  {p}w = Mul({p}d, {p}gamma)  {y} = Add({p}w, {p}beta)
        """


def linear(x: str, y: str, p: str) -> str:
    return f"{y}_product = MatMul({x}, {p}w)  {y} = Add({p}b, {y}_product)\n"


def layer(x: str, p: str) -> str:
    """Attention and the two matrices behind it, from ``x`` to ``{p}out``."""
    body = ""
    for part in "qkv":
        turn = "[0,2,3,1]" if part == "k" else "[0,2,1,3]"
        body += linear(x, f"{p}{part}", f"{p}{part}_")
        body += f"{p}{part}r = Reshape({p}{part}, apart) "
        body += f"{p}{part}t = Transpose<perm={turn}>({p}{part}r) "
    body += f"""{p}qk = MatMul({p}qt, {p}kt)  {p}sc = Div({p}qk, root)  {p}ma = Add({p}sc, added)
        {p}pr = Softmax<axis=3>({p}ma)  {p}o = MatMul({p}pr, {p}vt)
        {p}ot = Transpose<perm=[0,2,1,3]>({p}o)  {p}or = Reshape({p}ot, joined)
        """
    body += linear(f"{p}or", f"{p}ao", f"{p}o_") + f"{p}r1 = Add({p}ao, {x}) "
    body += norm(f"{p}r1", f"{p}n1", f"{p}x_") + linear(f"{p}n1", f"{p}h", f"{p}1_")
    body += f"""{p}hd = Div({p}h, sqrt2)  {p}he = Erf({p}hd)  {p}h1 = Add({p}he, one)
        {p}h2 = Mul({p}h, {p}h1)  {p}h3 = Mul({p}h2, half)
        """
    body += linear(f"{p}h3", f"{p}f", f"{p}2_") + f"{p}r2 = Add({p}f, {p}n1) "
    return body + norm(f"{p}r2", f"{p}out", f"{p}y_")


def bert(layers: int = 2):
    """Words, a mask and segments to three scores; ``embedded`` is what words become."""
    held = {
        "two": 2.0, "eps": 1e-12, "root": float(np.sqrt(WIDTH // HEADS)), "one": 1.0, "half": 0.5,
        "sqrt2": float(np.sqrt(2)), "big": -10000.0, "nought": np.array(0),
        "apart": np.array([0, 0, HEADS, WIDTH // HEADS]), "joined": np.array([0, 0, WIDTH]),
        "places": np.arange(LENGTH)[None],
        **weights(1, word=(20, WIDTH), position=(LENGTH, WIDTH), segment=(2, WIDTH)),
        **weights(2, e_gamma=(WIDTH,), e_beta=(WIDTH,), head_w=(WIDTH, 3), head_b=(3,)),
    }  # fmt: skip
    body = """mu = Unsqueeze<axes=[1]>(mask)  mu2 = Unsqueeze<axes=[2]>(mu)  mf = Cast<to=1>(mu2)
        mi = Sub(one, mf)  added = Mul(mi, big)  we = Gather(word, words)
        se = Gather(segment, parts)  pe = Gather(position, places)
        e1 = Add(we, pe)  e2 = Add(e1, se)
        """
    body += norm("e2", "embedded", "e_")
    x = "embedded"
    for i in range(layers):
        p = f"l{i}"
        body += layer(x, p)
        shapes = {f"{p}{n}_w": (WIDTH, WIDTH) for n in "qkvo"} | {
            f"{p}{n}_b": (WIDTH,) for n in "qkvo"
        }
        shapes |= {f"{p}1_w": (WIDTH, 16), f"{p}1_b": (16,), f"{p}2_w": (16, WIDTH)}
        shapes |= {f"{p}2_b": (WIDTH,)}
        shapes |= {f"{p}{n}_{m}": (WIDTH,) for n in "xy" for m in ("gamma", "beta")}
        held |= weights(10 + i, **shapes)
        x = f"{p}out"
    body += f"first = Gather<axis=1>({x}, nought)  " + linear("first", "y", "head_")
    inputs = ", ".join(f"int64[B,{LENGTH}] {n}" for n in ("words", "mask", "parts"))
    return net(f"({inputs}) => (float[B,3] y) {{ {body} }}", opset=11, **held)


def sentence(seed: int = 0):
    """Return one sentence for it, the last word of which is masked."""
    words = np.random.default_rng(seed).integers(0, 20, (1, LENGTH))
    parts = np.array([[0, 0, 1, 1, 1]])
    return {"words": words, "mask": np.array([[1, 1, 1, 1, 0]]), "parts": parts}
