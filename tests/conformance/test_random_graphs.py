"""Random graphs of registered operators: derivatives by difference, eagerly and compiled."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxexplain.ops import operators
from tests.builders import net
from tests.conformance.test_geometry import agree, text

SHAPE = (2, 4, 6, 6)

# What each operator of one input needs in front of it, so that it is defined and not near a pole.
BEFORE = {
    "Acos": "Tanh",
    "Asin": "Tanh",
    "Atanh": "Tanh",
    "Acosh": "Exp",
    "Log": "Sigmoid",
    "Sqrt": "Softplus",
    "Reciprocal": "Softplus",
    "Tan": "Sigmoid",
    "Exp": "Tanh",
    "Sinh": "Tanh",
    "Cosh": "Tanh",
}
SHIFTED = {"Acosh": ("Add", "more"), **dict.fromkeys(("Acos", "Asin", "Atanh"), ("Mul", "half"))}
NEWER = {"Gelu", "Swish", "Celu", "SwiGLU"}
"""In an opset of their own: they have nets of theirs."""
UNARY = sorted(
    op.op_type
    for op in operators()
    if op.role == "activation" and not op.domain and op.op_type not in NEWER | {"PRelu", "Clip"}
)
BINARY = ["Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum"]
SAME = {
    "Conv<pads=[1,1,1,1]>": ((4, 4, 3, 3), (4,)),
    "Conv<group=2, dilations=[2,2], pads=[2,2,2,2]>": ((4, 2, 3, 3), (4,)),
    "ConvTranspose<pads=[1,1,1,1]>": ((4, 4, 3, 3), (4,)),
    "PRelu": ((4, 1, 1),),
    "InstanceNormalization": ((4,), (4,)),
    "LayerNormalization": ((6,), (6,)),
    "MatMul": ((6, 6),),
}
PLAIN = [
    "MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>",
    "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>",
    "LpPool<kernel_shape=[3,3], pads=[1,1,1,1]>",
    "LRN<size=3>",
    "Softmax<axis=1>",
    "LogSoftmax<axis=-1>",
    "LpNormalization<axis=1>",
    "MeanVarianceNormalization<axes=[2,3]>",
    "Transpose<perm=[0,1,3,2]>",
]
WIDE = ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare"]


@st.composite
def graphs(draw):
    """Draw the lines of a graph whose tensors are all of one shape, and its weights."""
    lines, weights, tensors = [], {}, ["x"]
    rng = np.random.default_rng(draw(st.integers(0, 99)))

    def hold(shape):
        name = f"w{len(weights)}"
        weights[name] = (0.5 * rng.standard_normal(shape)).astype(np.float32)
        return name

    for _ in range(draw(st.integers(2, 6))):
        a, b = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
        made = f"t{len(tensors)}"
        kind = draw(st.sampled_from(["unary", "binary", "same", "plain", "wide", "join", "pick"]))
        if kind == "unary":
            op = draw(st.sampled_from(UNARY))
            before = BEFORE.get(op)
            if before:
                lines.append(f"{made}b = {before}({a})")
            inside = f"{made}b" if before else a
            if op in SHIFTED:
                word, by = SHIFTED[op]
                lines.append(f"{made}c = {word}({inside}, {by})")
                inside = f"{made}c"
            lines.append(f"{made} = {op}({inside})")
        elif kind == "binary":
            lines.append(f"{made} = {draw(st.sampled_from(BINARY))}({a}, {b})")
        elif kind == "same":
            op = draw(st.sampled_from(sorted(SAME)))
            held = ", ".join(hold(shape) for shape in SAME[op])
            lines.append(f"{made} = {op}({a}, {held})")
        elif kind == "plain":
            lines.append(f"{made} = {draw(st.sampled_from(PLAIN))}({a})")
        elif kind == "wide":
            lines.append(f"{made}r = {draw(st.sampled_from(WIDE))}({a}, axes)")
            lines.append(f"{made} = Add({b}, {made}r)")
        elif kind == "join":
            lines.append(f"{made}j = Concat<axis=1>({a}, {b})")
            lines.append(f"{made} = Slice({made}j, from, to, one_axis, two)")
        else:
            lines.append(f"{made} = Gather<axis=1>({a}, index)")
        tensors.append(made)
    lines.append(f"y = Sum({', '.join(tensors[1:])})")
    return "\n".join(lines), weights


@settings(max_examples=40)
@given(graphs(), st.integers(0, 9))
def test_random_graph(graph, seed):
    lines, weights = graph
    proto = net(
        f"({text(SHAPE)} x) => (float[a,b,c,d] y) {{ {lines} }}",
        more=1.5,
        half=0.5,
        axes=[2, 3],
        index=[3, 0, 0, 2],
        one_axis=[1],
        two=[2],
        to=[8],
        **{"from": [0]},
        **weights,
    )
    rng = np.random.default_rng(seed)
    # A normalisation of nearly equal numbers, such as a pool leaves of one strong element, lifts
    # float32's rounding by up to 1 / sqrt(epsilon) = 316.
    agree(proto, {"x": rng.standard_normal(SHAPE)}, seed=seed, close=3e-4)
