"""Small networks that go step by step: recurrences, loops, branches, sequences."""

import numpy as np

from tests.builders import net, weights


def recurrent(node, width=3, states=1, seed=11, **held):
    """A model of 5 steps of 6 features: through ``node``, its outputs Y, H (and C), to 4 scores."""
    rng = np.random.default_rng(seed)
    last = "C" if states == 2 else "H"
    return net(
        f"""(float[N,5,6] x) => (float[N,4] y) {{
        t = Transpose<perm=[1,0,2]>(x)  {node}
        m = ReduceMean<keepdims=0>(Y, first)  q = Add(m, {last})  r = Transpose<perm=[1,0,2]>(q)
        f = Flatten(r)  y = Gemm(f, v, c) }}""",
        first=[0],
        v=rng.standard_normal((width, 4)).astype(np.float32),
        c=rng.standard_normal(4).astype(np.float32),
        **held,
    )


def cells(gates, directions=1, hidden=3, seed=12):
    """The weights of a recurrent layer for 6 features."""
    return weights(
        seed,
        W=(directions, gates * hidden, 6),
        R=(directions, gates * hidden, hidden),
        B=(directions, 2 * gates * hidden),
    )


LOOP = """y = Loop<body = step (int64 i, bool on, float[N,4] s) => (bool more, float[N,4] u)
    { more = Identity(on)  p = Gemm(s, k, d)  n = Tanh(p)  u = Add(n, s) }>(four, yes, h)"""

WHILE = """q, count, rows = Loop<body = step (int64 i, bool on, float[N,4] s, int64 j)
    => (bool more, float[N,4] u, int64 l, float[N,4] row)
    { l = Add(j, two)  more = Less(l, seven)  p = MatMul(s, k)  u = Sigmoid(p)
      row = Identity(u) }>(, , h, two)
    m = ReduceMean<keepdims=0>(rows, first)  y = Add(m, q)"""

SCAN = """s = Gather<axis=1>(x, zero)  h = MatMul(s, w)  q, all = Scan<num_scan_inputs=1,
    scan_input_axes=[1], scan_input_directions=[1],
    scan_output_axes=[1], body = step (float[N,4] t, float[N,6] z)
    => (float[N,4] u, float[N,4] o)
    { m = MatMul(z, w)  n = MatMul(t, k)  e = Add(m, n)  u = Tanh(e)  o = Relu(u) }>(h, x)
    p = ReduceMean<keepdims=0>(all, second)  y = Add(p, q)"""

IF = """s = ReduceSum<keepdims=0>(h)  c = Greater(s, none)
    y = If<then_branch = g () => (float[N,4] a) { t = Tanh(h)  a = Mul(t, b) },
           else_branch = g () => (float[N,4] a) { p = Sigmoid(h)  a = Add(p, d) }>(c)"""


def nets():
    """Return every network by name."""
    head = weights(13, w=(6, 4), b=(4,), k=(4, 4), d=(4,))
    one = {"yes": np.array(True), "two": np.array(2), "seven": np.array(7), "four": np.array(4)}
    one["first"] = np.array([0])
    return {
        "rnn": recurrent("Y, H = RNN<hidden_size=3>(t, W, R, B)", **cells(1)),
        "gru": recurrent("Y, H = GRU<hidden_size=3>(t, W, R, B)", **cells(3)),
        "gru-reset-behind": recurrent(
            'Y, H = GRU<hidden_size=3, linear_before_reset=1, direction="reverse">(t, W, R, B)',
            **cells(3),
        ),
        "lstm": recurrent("Y, H, C = LSTM<hidden_size=3>(t, W, R, B)", states=2, **cells(4)),
        "lstm-everything": recurrent(
            """Y, H, C = LSTM<hidden_size=3, direction="bidirectional", clip=0.7, input_forget=1,
            activations=["HardSigmoid","Tanh","Softsign","Sigmoid","ScaledTanh","Tanh"],
            activation_alpha=[0.3, 0.9], activation_beta=[0.4, 1.2]>
            (t, W, R, B, , h0, c0, P)""",
            width=6,
            states=2,
            **cells(4, 2),
            **weights(14, h0=(2, 1, 3), c0=(2, 1, 3), P=(2, 9)),
        ),
        "loop": net(
            f"(float[N,6] x) => (float[N,4] y) {{ h = Gemm(x, w, b)  {LOOP} }}", **head, **one
        ),
        "while": net(
            f"(float[N,6] x) => (float[N,4] y) {{ h = Gemm(x, w, b)  {WHILE} }}", **head, **one
        ),
        "scan": net(
            f"(float[N,5,6] x) => (float[N,4] y) {{ {SCAN} }}", zero=np.array(0), second=[1], **head
        ),
        "if": net(
            f"(float[N,6] x) => (float[N,4] y) {{ h = Gemm(x, w, b)  {IF} }}", none=0.0, **head
        ),
    }
