"""RNN, GRU and LSTM: the equations of a step."""

from onnxexplain.graph.spelled._spelling import Scope, spelling
from onnxexplain.graph.spelled._steps import Direction, State, unroll


@spelling("RNN")
def rnn(scope: Scope) -> bool:
    """A plain recurrence."""
    return unroll(scope, ["Tanh"], 1, _rnn)


@spelling("GRU")
def gru(scope: Scope) -> bool:
    """The gates z and r, then the new state."""
    return unroll(scope, ["Sigmoid", "Tanh"], 1, _gru)


@spelling("LSTM")
def lstm(scope: Scope) -> bool:
    """The gates i, o and f, then the new cell."""
    return unroll(scope, ["Sigmoid", "Tanh", "Tanh"], 2, _lstm)


def _rnn(to: Direction, x: str, state: State) -> State:
    """``H' = f(x + H R)``; in ``x`` are the product of the input and the bias."""
    (f,), (before,) = to.activations, state
    total = to.write("Add", x, to.write("MatMul", before, to.recurrent))
    return (f(to.clipped(total)),)


def _gru(to: Direction, x: str, state: State) -> State:
    """``H' = (1 - z) h + z H``; the reset gate r acts before the product with R, or behind it."""
    (f, g), (before,) = to.activations, state
    gates, new = to.cut(x, 2, 1)
    gates_r, new_r = to.cut(to.recurrent, 2, 1)
    gates = to.write("Add", gates, to.write("MatMul", before, gates_r))
    z, r = to.cut(f(to.clipped(gates)), 1, 1)
    if to.layer.said.get("linear_before_reset"):
        product = to.write("MatMul", before, new_r)
        if to.bias:
            product = to.write("Add", product, to.bias)
        product = to.write("Mul", r, product)
    else:
        product = to.write("MatMul", to.write("Mul", r, before), new_r)
    new = g(to.clipped(to.write("Add", new, product)))
    return (to.write("Add", to.write("Mul", to.rest(z), new), to.write("Mul", z, before)),)


def _lstm(to: Direction, x: str, state: State) -> State:
    """``C' = f C + i c``, ``H' = o h(C')``; through peepholes the gates see the cell."""
    (f, g, h), (before, cell) = to.activations, state
    gates, new = to.cut(to.write("Add", x, to.write("MatMul", before, to.recurrent)), 3, 1)
    if to.peepholes:
        i, o, forget = to.cut(gates, 1, 1, 1)
        i, forget = (f(_seeing(to, *gate, cell)) for gate in ((i, 0), (forget, 2)))
    else:
        i, o, forget = to.cut(f(to.clipped(gates)), 1, 1, 1)
    if to.layer.said.get("input_forget"):
        forget = to.rest(i)
    kept, added = to.write("Mul", forget, cell), to.write("Mul", i, g(to.clipped(new)))
    cell = to.write("Add", kept, added)  # no clip on it, as in ONNX Runtime
    if to.peepholes:
        o = f(_seeing(to, o, 1, cell))
    return (to.write("Mul", o, h(cell)), cell)


def _seeing(to: Direction, gate: str, at: int, cell: str) -> str:
    return to.clipped(to.write("Add", gate, to.write("Mul", to.peepholes[at], cell)))
