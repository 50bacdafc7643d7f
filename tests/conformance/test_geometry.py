"""Random geometry: convolutions, pools, matrix products, broadcasting, padding, joining."""

import math

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import onnxexplain as ox
from tests.builders import Numeric, flat, net

few = settings(max_examples=40)
many = settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])


def text(shape):
    return f"float[{','.join(map(str, shape))}]"


def agree(proto, feeds, *, ties="first", smooth=True, seed=0, close=1e-5):
    """Central difference = eager in float64 = compiled and eager in float32; and all conserve."""
    proto = flat(proto)
    feeds = {f"{n}_row": v.astype(np.float32).reshape(1, -1) for n, v in feeds.items()}
    rng = np.random.default_rng(seed)
    explainer = ox.Explainer(proto, engine="eager", dtype="float64", ties=ties)
    logits = explainer(feeds).logits
    target = rng.standard_normal(logits.shape).astype(np.float32)
    exact = explainer(feeds, target=target)
    assert unexplained(exact) <= 1e-12 * max(1, abs(exact.score[0])) + 1e-14 * shared(exact)
    if smooth:
        numeric = Numeric(proto, feeds, "scores", target)
        direction = {n: rng.standard_normal(v.shape) for n, v in feeds.items()}
        gradient = ox.explain(
            proto, feeds, "gradient", engine="eager", dtype="float64", target=target
        )
        ours = sum((gradient.attributions[n] * d).sum() for n, d in direction.items())
        theirs = numeric.along(direction, 1e-7)
        assert math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-5 * max(1, *map(abs, [ours])))
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, feeds, engine=engine, target=target, ties=ties)
        assert unexplained(e) <= 1e-5 * max(1, abs(e.score[0])) + 1e-7 * shared(e)
        for tensor, value in exact.attributions.items():
            size = max(1.0, np.abs(value).max())
            assert np.allclose(e.attributions[tensor], value, atol=close * size), engine


def unexplained(e) -> float:
    return abs(e.residual[0]) * max(1, abs(e.score[0]))


def shared(e) -> float:
    """How much is shared out, whatever its sign: sums of it are exact to its last digits only."""
    parts = (*e.attributions.values(), *e.constants.values())
    return sum(float(np.abs(v).sum()) for v in parts)


# ----- Windows -----


@st.composite
def windows(draw):
    """Draw the sizes of an image and a window that fits it, pads less than the kernel."""
    rank = draw(st.integers(1, 3))
    axis = st.tuples(
        st.integers(1, 7 if rank < 3 else 5),  # size
        st.integers(1, 3),  # kernel
        st.integers(1, 3),  # stride
        st.integers(1, 2),  # dilation
        st.integers(0, 2),  # begin
        st.integers(0, 2),  # end
    )
    sizes, kernel, strides, dilations, begins, ends = zip(
        *(draw(axis) for _ in range(rank)), strict=True
    )
    sizes = tuple(map(max, sizes, dilations))  # else a window may see nothing but padding
    begins = tuple(min(p, k - 1) for p, k in zip(begins, kernel, strict=True))
    ends = tuple(min(p, k - 1) for p, k in zip(ends, kernel, strict=True))
    for n, k, d, b, e in zip(sizes, kernel, dilations, begins, ends, strict=True):
        assume(n + b + e >= (k - 1) * d + 1)
    return sizes, kernel, strides, dilations, begins, ends


def attributes(**values):
    return ", ".join(
        f"{n}={list(v) if isinstance(v, tuple) else v}" for n, v in values.items() if v is not None
    )


@few
@given(
    windows(),
    st.sampled_from([(1, 1, 2), (1, 3, 2), (2, 1, 2), (3, 1, 1), (2, 2, 3)]),
    st.integers(1, 2),
    st.booleans(),
    st.integers(0, 9),
)
def test_convolution(geometry, channels, n, bias, seed):
    sizes, kernel, strides, dilations, begins, ends = geometry
    group, inner, outer = channels
    rng = np.random.default_rng(seed)
    shape = (n, group * inner, *sizes)
    held = {"w": rng.standard_normal((group * outer, inner, *kernel)).astype(np.float32)}
    if bias:
        held["b"] = rng.standard_normal(group * outer).astype(np.float32)
    says = attributes(strides=strides, dilations=dilations, pads=begins + ends, group=group)
    out = ",".join("abcde"[: len(shape)])
    proto = net(
        f"({text(shape)} x) => (float[{out}] y) {{ y = Conv<{says}>({', '.join(['x', *held])}) }}",
        **held,
    )
    agree(proto, {"x": rng.standard_normal(shape)}, seed=seed)


@few
@given(
    st.lists(
        st.tuples(st.integers(3, 8), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3
    ),
    st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
    st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    st.integers(0, 9),
)
def test_auto_pad(axes, mode, operator, seed):
    sizes, kernel, strides = zip(*axes, strict=True)
    strides = tuple(map(min, strides, kernel))  # the runtime takes no gaps here
    rng = np.random.default_rng(seed)
    shape = (1, 2, *sizes)
    held = {}
    if operator == "Conv":
        held["w"] = rng.standard_normal((3, 2, *kernel)).astype(np.float32)
    says = attributes(strides=strides, kernel_shape=kernel) + f', auto_pad="{mode}"'
    out = ",".join("abcde"[: len(shape)])
    proto = net(
        f"({text(shape)} x) => (float[{out}] y) "
        f"{{ y = {operator}<{says}>({', '.join(['x', *held])}) }}",
        **held,
    )
    agree(proto, {"x": rng.standard_normal(shape)}, seed=seed)


def pooled(shape, operator, says):
    out = ",".join("abcde"[: len(shape)])
    return net(f"({text(shape)} x) => (float[{out}] y) {{ y = {operator}<{says}>(x) }}", opset=19)


def overhangs(geometry) -> bool:
    """Whether a ceil_mode window starts beyond the input: runtimes differ on such a window."""
    sizes, kernel, strides, dilations, begins, ends = geometry
    for n, k, s, d, b, e in zip(sizes, kernel, strides, dilations, begins, ends, strict=True):
        many = -(-(n + b + e - (k - 1) * d - 1) // s) + 1
        if (many - 1) * s >= n + b:
            return True
    return False


def blind(geometry) -> bool:
    """Whether a dilated window may see nothing but padding: runtimes differ on its value."""
    sizes, kernel, strides, dilations, begins, ends = geometry
    for n, k, s, d, b, e in zip(sizes, kernel, strides, dilations, begins, ends, strict=True):
        for first in range(-b, n + e - (k - 1) * d + s, s):
            if not any(0 <= first + t * d < n for t in range(k)):
                return True
    return False


@many
@given(
    windows(), st.booleans(), st.sampled_from(["first", "share"]), st.booleans(), st.integers(0, 9)
)
def test_max_pool(geometry, ceil, ties, tied, seed):
    """With and without ties: overlapping windows add up, each hands on exactly what it got."""
    sizes, kernel, strides, dilations, begins, ends = geometry
    assume(not (ceil and overhangs(geometry)) and not blind(geometry))
    shape = (2, 3, *sizes)
    says = attributes(
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=begins + ends,
        ceil_mode=int(ceil),
    )
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 2, shape) if tied else rng.permutation(math.prod(shape)).reshape(shape) / 9
    agree(pooled(shape, "MaxPool", says), {"x": x}, ties=ties, smooth=not tied, seed=seed)


@many
@given(windows(), st.booleans(), st.booleans(), st.integers(0, 9))
def test_average_pool(geometry, ceil, counted, seed):
    sizes, kernel, strides, dilations, begins, ends = geometry
    assume(not (ceil and overhangs(geometry)) and not blind(geometry))
    shape = (2, 3, *sizes)
    says = attributes(
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=begins + ends,
        ceil_mode=int(ceil),
        count_include_pad=int(counted),
    )
    rng = np.random.default_rng(seed)
    agree(pooled(shape, "AveragePool", says), {"x": rng.standard_normal(shape)}, seed=seed)


# ----- Products -----


@few
@given(
    st.sampled_from([(), (2,), (1,), (3, 2), (3, 1)]),
    st.sampled_from([(), (2,), (1,), (3, 2), (1, 2)]),
    st.sampled_from([(4, 5), (None, 5), (4, None), (None, None), (1, 1)]),
    st.sampled_from(["both", "left", "right"]),
    st.integers(0, 9),
)
def test_matmul(left, right, ends, varies, seed):
    rows, columns = ends
    a = (3,) if rows is None else (*left, rows, 3)
    b = (3,) if columns is None else (*right, 3, columns)
    rng = np.random.default_rng(seed)
    values = {"a": rng.standard_normal(a), "b": rng.standard_normal(b)}
    inputs = {"both": ["a", "b"], "left": ["a"], "right": ["b"]}[varies]
    held = {n: v.astype(np.float32) for n, v in values.items() if n not in inputs}
    rank = np.matmul(values["a"], values["b"]).ndim
    signature = ", ".join(f"{text(values[n].shape)} {n}" for n in inputs)
    out = f"float[{','.join('cdefg'[:rank])}] y" if rank else "float y"
    proto = net(f"({signature}) => ({out}) {{ y = MatMul(a, b) }}", **held)
    agree(proto, {n: values[n] for n in inputs}, seed=seed)


@few
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, (), (1,), (5,), (1, 5), (4, 1), (4, 5)]),
    st.sampled_from([1.0, 0.5, -2.0]),
    st.sampled_from([1.0, 0.25, -1.0]),
    st.sets(st.sampled_from("abc"), min_size=1),
    st.integers(0, 9),
)
def test_gemm(turn_a, turn_b, c, alpha, beta, varies, seed):
    rng = np.random.default_rng(seed)
    values = {
        "a": rng.standard_normal((3, 4) if turn_a else (4, 3)),
        "b": rng.standard_normal((5, 3) if turn_b else (3, 5)),
    }
    if c is not None:
        values["c"] = rng.standard_normal(c)
    inputs = [n for n in values if n in varies]
    assume(inputs)
    held = {n: np.float32(v) for n, v in values.items() if n not in inputs}
    signature = ", ".join(
        f"{text(values[n].shape) if values[n].ndim else 'float'} {n}" for n in inputs
    )
    says = f"alpha={alpha}, beta={beta}, transA={int(turn_a)}, transB={int(turn_b)}"
    proto = net(
        f"({signature}) => (float[d,e] y) {{ y = Gemm<{says}>({', '.join(values)}) }}", **held
    )
    agree(proto, {n: values[n] for n in inputs}, seed=seed)


# ----- Elementwise -----

SHAPES = st.sampled_from([(), (1,), (4,), (3, 1), (3, 4), (1, 4), (2, 3, 4), (2, 1, 1), (2, 3, 1)])


@many
@given(
    st.sampled_from(["Add", "Sub", "Mul", "Div", "Sum", "Pow", "Mean", "Max", "Min"]),
    SHAPES,
    SHAPES,
    st.sampled_from(["both", "left", "right"]),
    st.integers(0, 9),
)
def test_broadcasting(operator, a, b, varies, seed):
    rng = np.random.default_rng(seed)
    values = {"a": rng.uniform(0.5, 2, a), "b": rng.uniform(0.5, 2, b)}
    inputs = {"both": ["a", "b"], "left": ["a"], "right": ["b"]}[varies]
    held = {n: np.float32(v) for n, v in values.items() if n not in inputs}
    rank = np.broadcast_shapes(a, b)
    signature = ", ".join(
        f"{text(values[n].shape) if values[n].ndim else 'float'} {n}" for n in inputs
    )
    out = f"float[{','.join('cdefg'[: len(rank)])}] y" if rank else "float y"
    proto = net(f"({signature}) => ({out}) {{ y = {operator}(a, b) }}", **held)
    agree(proto, {n: values[n] for n in inputs}, seed=seed)


@few
@given(
    st.sampled_from([(3, 4), (2, 3, 4), (2, 3, 4, 2)]),
    st.data(),
    st.booleans(),
    st.integers(0, 9),
)
def test_slopes(shape, drawn, varies, seed):
    """A slope of any shape that broadcasts, constant or not."""
    slope = tuple(drawn.draw(st.sampled_from([1, n])) for n in shape)[
        drawn.draw(st.integers(0, 2)) :
    ]
    rng = np.random.default_rng(seed)
    values = {"x": rng.standard_normal(shape), "s": rng.uniform(-1, 1, slope or (1,))}
    held = {} if varies else {"s": np.float32(values.pop("s"))}
    signature = ", ".join(f"{text(v.shape)} {n}" for n, v in values.items())
    out = ",".join("abcd"[: len(shape)])
    proto = net(f"({signature}) => (float[{out}] y) {{ y = PRelu(x, s) }}", **held)
    agree(proto, values, seed=seed)


# ----- Moving -----


@few
@given(
    st.lists(st.integers(2, 4), min_size=1, max_size=4),
    st.data(),
    st.floats(-2, 2, width=16),
    st.booleans(),
    st.integers(0, 9),
)
def test_pad(shape, drawn, value, named, seed):
    """Padding and cropping, of any axes, with any value."""
    axes = drawn.draw(
        st.lists(
            st.integers(-len(shape), len(shape) - 1),
            min_size=1,
            max_size=len(shape),
            unique_by=lambda a: a % len(shape),
        )
        if named
        else st.just(list(range(len(shape))))
    )
    begins, ends = (drawn.draw(st.tuples(*[st.integers(-1, 2)] * len(axes))) for _ in range(2))
    for i, axis in enumerate(axes):
        assume(
            shape[axis] + begins[i] + ends[i] > 0
            and shape[axis] + min(begins[i], 0) + min(ends[i], 0) > 0
        )
    held = {"pads": np.array([*begins, *ends]), "value": float(value)}
    more = ", axes" if named else ""
    if named:
        held["axes"] = np.array(axes)
    out = ",".join("abcd"[: len(shape)])
    proto = net(
        f"({text(shape)} x) => (float[{out}] y) {{ y = Pad(x, pads, value{more}) }}", **held
    )
    agree(proto, {"x": np.random.default_rng(seed).standard_normal(shape)}, seed=seed)


@few
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(-4, 3),
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=4),
    st.integers(0, 9),
)
def test_concat_with_constants(shape, axis, parts, seed):
    assume(-len(shape) <= axis < len(shape) and any(varies for _, varies in parts))
    rng = np.random.default_rng(seed)
    feeds, held = {}, {}
    for i, (length, varies) in enumerate(parts):
        own = list(shape)
        own[axis] = length
        (feeds if varies else held)[f"p{i}"] = rng.standard_normal(own).astype(np.float32)
    signature = ", ".join(f"{text(v.shape)} {n}" for n, v in feeds.items())
    names = ", ".join(f"p{i}" for i in range(len(parts)))
    out = ",".join("abcd"[: len(shape)])
    proto = net(f"({signature}) => (float[{out}] y) {{ y = Concat<axis={axis}>({names}) }}", **held)
    agree(proto, feeds, seed=seed)


@few
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(["ReduceSum", "ReduceMean"]),
    st.sets(st.integers(0, 3)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
def test_reductions(shape, operator, axes, keep, noop, seed):
    axes = [a - len(shape) * (a % 2) for a in axes if a < len(shape)]
    rank = len(shape) if keep or (noop and not axes) else len(shape) - (len(axes) or len(shape))
    says = f"keepdims={int(keep)}, noop_with_empty_axes={int(noop)}"
    out = f"float[{','.join('abcd'[:rank])}] y" if rank else "float y"
    proto = net(
        f"({text(shape)} x) => ({out}) {{ y = {operator}<{says}>(x, axes) }}",
        axes=np.array(axes, np.int64),
    )
    agree(proto, {"x": np.random.default_rng(seed).standard_normal(shape)}, seed=seed)
