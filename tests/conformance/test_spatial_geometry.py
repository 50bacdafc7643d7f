"""Random geometry: what enlarges, pads, samples and pools over positions."""

import math

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from onnxexplain.runtime import run_once
from tests.builders import in_float64, net
from tests.conformance.test_geometry import agree, attributes, text, windows

few = settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])
more = settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
seeds = st.integers(0, 9)


def model(node, feeds, rank, *, opset=18, **held):
    """Return a model of one node ``y = ...`` whose inputs are the feeds."""
    signature = ", ".join(f"{text(v.shape)} {n}" for n, v in feeds.items())
    out = ",".join("abcdef"[:rank])
    return net(f"({signature}) => (float[{out}] y) {{ y = {node} }}", opset=opset, **held)


def check(proto, feeds, **options):
    """The reference computes what the runtime does; all ways back agree."""
    feeds = {n: np.asarray(v, np.float32) for n, v in feeds.items()}
    (theirs,) = run_once(proto, feeds, ["y"])
    ours = in_float64(proto, {n: v.astype(np.float64) for n, v in feeds.items()}, "y")
    assert ours.dtype == np.float64
    assert ours.shape == theirs.shape
    size = max(1.0, np.abs(theirs).max())
    assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * size)
    agree(proto, feeds, **options)


# ----- Convolutions -----


@few
@given(
    windows(),
    st.sampled_from([(1, 1, 2), (1, 3, 2), (2, 1, 2), (2, 2, 3)]),
    st.sets(st.sampled_from("xwb"), min_size=1),
    seeds,
)
def test_convolution_with_weights_that_vary(geometry, channels, varies, seed):
    sizes, kernel, strides, dilations, begins, ends = geometry
    group, inner, outer = channels
    rng = np.random.default_rng(seed)
    values = {
        "x": rng.standard_normal((2, group * inner, *sizes)),
        "w": rng.standard_normal((group * outer, inner, *kernel)),
        "b": rng.standard_normal(group * outer),
    }
    says = attributes(strides=strides, dilations=dilations, pads=begins + ends, group=group)
    feeds = {n: v for n, v in values.items() if n in varies}
    held = {n: np.float32(v) for n, v in values.items() if n not in varies}
    check(model(f"Conv<{says}>(x, w, b)", feeds, 2 + len(sizes), **held), feeds, seed=seed)


@st.composite
def transposed(draw):
    """Draw a transposed convolution of 1 to 3 axes whose output is not empty."""
    rank = draw(st.integers(1, 3))
    axis = st.tuples(
        st.integers(1, 5 if rank < 3 else 3),  # size
        st.integers(1, 3),  # kernel
        st.integers(1, 3),  # stride
        st.integers(1, 2),  # dilation
        st.integers(0, 2),  # begin
        st.integers(0, 2),  # end
        st.integers(0, 2),  # output padding
    )
    sizes, kernel, strides, dilations, begins, ends, extra = zip(
        *(draw(axis) for _ in range(rank)), strict=True
    )
    extra = tuple(min(e, s - 1) for e, s in zip(extra, strides, strict=True))
    full = tuple(
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, k, s, d, e in zip(sizes, kernel, strides, dilations, extra, strict=True)
    )
    for n, b, e in zip(full, begins, ends, strict=True):
        assume(n - b - e > 0)
    return sizes, kernel, strides, dilations, begins + ends, extra, full


@more
@given(
    transposed(),
    st.sampled_from([(1, 1, 2), (1, 3, 2), (2, 1, 2), (2, 2, 3)]),
    st.sampled_from(["pads", "shape", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    st.sampled_from(["x", "xb", "xw", "w", "xwb"]),
    st.data(),
    seeds,
)
def test_transposed_convolution(geometry, channels, how, varies, drawn, seed):
    sizes, kernel, strides, dilations, pads, extra, full = geometry
    group, inner, outer = channels
    rng = np.random.default_rng(seed)
    values = {
        "x": rng.standard_normal((2, group * inner, *sizes)),
        "w": rng.standard_normal((group * inner, outer, *kernel)),
        "b": rng.standard_normal(group * outer),
    }
    says = attributes(strides=strides, dilations=dilations, group=group, output_padding=extra)
    if how == "pads":
        says += ", " + attributes(pads=pads)
    elif how == "shape":
        wanted = tuple(
            drawn.draw(st.integers(min(pair), pair[1])) for pair in zip(sizes, full, strict=True)
        )
        says += ", " + attributes(output_shape=wanted)
    else:
        longer = [f >= n * s for f, n, s in zip(full, sizes, strides, strict=True)]
        assume(how == "VALID" or (all(longer) and not any(extra)))
        says += f', auto_pad="{how}"'
    feeds = {n: v for n, v in values.items() if n in varies}
    held = {n: np.float32(v) for n, v in values.items() if n not in varies}
    proto = model(f"ConvTranspose<{says}>(x, w, b)", feeds, 2 + len(sizes), **held)
    check(proto, feeds, seed=seed)


@few
@given(
    st.tuples(st.integers(3, 5), st.integers(3, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(0, 1)),
    st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]),
    st.sampled_from(["x", "xo", "xwobm", "om", "xwb", "o"]),
    st.booleans(),
    seeds,
)
def test_deformable_convolution(sizes, kernel, steps, groups, varies, masked, seed):
    stride, dilation, pad = steps
    group, offset_group = groups
    reach = [(k - 1) * dilation + 1 for k in kernel]
    out = [(n + 2 * pad - r) // stride + 1 for n, r in zip(sizes, reach, strict=True)]
    assume(min(out) > 0)
    rng = np.random.default_rng(seed)
    taps = offset_group * math.prod(kernel)
    values = {
        "x": rng.standard_normal((2, 4, *sizes)),
        "w": rng.standard_normal((4, 4 // group, *kernel)),
        "o": rng.uniform(-1.5, 1.5, (2, 2 * taps, *out)),
        "b": rng.standard_normal(4),
        "m": rng.uniform(0, 1, (2, taps, *out)),
    }
    if not masked:
        values.pop("m")
    assume(set(varies) <= set(values))
    says = attributes(
        strides=(stride,) * 2,
        dilations=(dilation,) * 2,
        pads=(pad,) * 4,
        group=group,
        offset_group=offset_group,
    )
    feeds = {n: v for n, v in values.items() if n in varies}
    held = {n: np.float32(v) for n, v in values.items() if n not in varies}
    proto = model(f"DeformConv<{says}>({', '.join(values)})", feeds, 4, opset=19, **held)
    check(proto, feeds, seed=seed)


# ----- Resizing -----

HALVES = ["half_pixel", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"]


@st.composite
def resizing(draw):
    """Draw the attributes of a Resize that the runtime takes."""
    says = {"mode": draw(st.sampled_from(["nearest", "linear", "cubic"]))}
    where = draw(st.sampled_from([*HALVES, "align_corners", "tf_crop_and_resize"]))
    says["coordinate_transformation_mode"] = where
    if says["mode"] == "nearest":
        rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        says["nearest_mode"] = draw(st.sampled_from(rounding))
    else:
        says["antialias"] = draw(st.integers(0, 1))
        if says["mode"] == "cubic" or says["antialias"]:
            says["exclude_outside"] = draw(st.integers(0, 1))
        says["cubic_coeff_a"] = draw(st.sampled_from([-0.75, -0.5]))
    if where == "tf_crop_and_resize":
        says["extrapolation_value"] = draw(st.sampled_from([0.0, 1.5]))
    return says


def said(says):
    return ", ".join(f'{n}="{v}"' if isinstance(v, str) else f"{n}={v}" for n, v in says.items())


@more
@given(resizing(), st.data(), seeds)
def test_resize(says, drawn, seed):
    sizes = drawn.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    held, scales, asked, roi = {}, "", "", ""
    if drawn.draw(st.booleans()):
        times = drawn.draw(
            st.tuples(*[st.sampled_from([0.3, 0.5, 0.6, 1.0, 1.1, 1.4, 2.0, 2.6, 3.0])] * 2)
        )
        assume(all(np.float32(t) * n >= 1 for t, n in zip(times, sizes, strict=True)))
        held["scales"], scales = np.array([1, 1, *times], np.float32), "scales"
    else:
        wanted = drawn.draw(st.tuples(st.integers(1, 11), st.integers(1, 11)))
        held["sizes"], asked = [1, 2, *wanted], "sizes"
    if says["coordinate_transformation_mode"] == "tf_crop_and_resize":
        edge = st.floats(-0.25, 0.5, width=16)
        part = [drawn.draw(edge) for _ in range(4)]
        ends = [0.6 + v for v in part[2:]]
        held["roi"], roi = np.array([0, 0, *part[:2], 1, 1, *ends], np.float32), "roi"
    x = np.random.default_rng(seed).standard_normal((1, 2, *sizes))
    node = f"Resize<{said(says)}>(x, {roi}, {scales}, {asked})"
    check(model(node, {"x": x}, 4, opset=19, **held), {"x": x}, seed=seed)


@few
@given(
    st.sampled_from(["nearest", "linear"]),
    st.sampled_from([((1, 6, 5, 2), [1, 2]), ((2, 6), [0, 1]), ((2, 3, 4, 3, 2), [2, 3, 4])]),
    st.sampled_from(["stretch", "not_larger", "not_smaller"]),
    st.data(),
    seeds,
)
def test_resized_axes(mode, setting, policy, drawn, seed):
    """Channels last, planes and volumes; aspect ratios that are kept; axes in any order."""
    shape, axes = setting
    axes = drawn.draw(st.permutations(axes))
    sizes = [drawn.draw(st.integers(1, 9)) for _ in axes]
    says = f'mode="{mode}", axes={list(axes)}, keep_aspect_ratio_policy="{policy}"'
    x = np.random.default_rng(seed).standard_normal(shape)
    scale = [m / shape[a] for m, a in zip(sizes, axes, strict=True)]
    kept = {"not_larger": min(scale), "not_smaller": max(scale)}.get(policy)
    assume(kept is None or all(kept * shape[a] >= 0.6 for a in axes))
    node = f"Resize<{says}>(x, , , sizes)"
    check(model(node, {"x": x}, len(shape), opset=19, sizes=sizes), {"x": x}, seed=seed)


# ----- Padding and blocks -----


@few
@given(
    st.sampled_from(["edge", "reflect", "wrap"]),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.data(),
    st.booleans(),
    seeds,
)
def test_modes_of_pad(mode, shape, drawn, named, seed):
    """Padding with elements of the tensor, by more than it has where the mode allows it."""
    axes = drawn.draw(st.permutations(range(len(shape))))[: drawn.draw(st.integers(1, len(shape)))]
    axes = axes if named else range(len(shape))
    most = [shape[a] - 1 if mode == "reflect" else 2 * shape[a] + 1 for a in axes]
    pads = [
        drawn.draw(st.integers(-min(1, shape[a] - 1), m)) for a, m in zip(axes, most, strict=True)
    ]
    pads += [drawn.draw(st.integers(0, m)) for m in most]
    held = {"pads": pads} | ({"axes": list(axes)} if named else {})
    assume(mode != "reflect" or all(p >= 0 for p in pads))
    node = f'Pad<mode="{mode}">(x, pads{", , axes" if named else ""})'
    x = np.random.default_rng(seed).standard_normal(shape)
    check(model(node, {"x": x}, len(shape), opset=19, **held), {"x": x}, seed=seed)


@few
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.booleans(), st.data(), seeds)
def test_padding_with_a_value_that_varies(shape, held, drawn, seed):
    pads = [drawn.draw(st.integers(0, 2)) for _ in range(2 * len(shape))]
    rng = np.random.default_rng(seed)
    feeds = {"x": rng.standard_normal(shape), "value": rng.standard_normal(1)}
    kept = {"x": np.float32(feeds.pop("x"))} if held else {}
    proto = model("Pad(x, pads, one)", feeds, len(shape), pads=pads, **kept)
    squeeze = net(
        "(float[1] value) => (float one) { one = Squeeze(value) }",
    ).graph.node
    nodes = [*squeeze, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    check(proto, feeds, seed=seed)


@few
@given(
    st.sampled_from(["DCR", "CRD"]),
    st.integers(1, 3),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), st.integers(1, 2)),
    st.booleans(),
    seeds,
)
def test_blocks(mode, side, sizes, deep, seed):
    n, channels, high, wide = sizes
    if deep:
        shape = (n, channels, high * side, wide * side)
        node = f"SpaceToDepth<blocksize={side}>(x)"
    else:
        shape = (n, channels * side**2, high, wide)
        node = f'DepthToSpace<blocksize={side}, mode="{mode}">(x)'
    x = np.random.default_rng(seed).standard_normal(shape)
    check(model(node, {"x": x}, 4), {"x": x}, seed=seed)


@few
@given(windows(), seeds)
def test_columns_to_image(geometry, seed):
    sizes, kernel, strides, dilations, begins, ends = geometry
    many = [
        (n + b + e - (k - 1) * d - 1) // s + 1
        for n, k, s, d, b, e in zip(sizes, kernel, strides, dilations, begins, ends, strict=True)
    ]
    assume(len(sizes) == 2 or set(dilations) == {1})  # the runtime's own goes wrong elsewhere
    says = attributes(strides=strides, dilations=dilations, pads=begins + ends)
    shape = (2, 3 * math.prod(kernel), math.prod(many))
    x = np.random.default_rng(seed).standard_normal(shape)
    node = f"Col2Im<{says}>(x, image, block)"
    held = {"image": list(sizes), "block": list(kernel)}
    check(model(node, {"x": x}, 2 + len(sizes), **held), {"x": x}, seed=seed)


@few
@given(st.lists(st.integers(1, 5), min_size=2, max_size=3), st.data(), seeds)
def test_center_crop_and_pad(shape, drawn, seed):
    wanted = [drawn.draw(st.integers(1, 7)) for _ in shape]
    x = np.random.default_rng(seed).standard_normal(shape)
    check(model("CenterCropPad(x, s)", {"x": x}, len(shape), s=wanted), {"x": x}, seed=seed)


# ----- Sampling -----


@more
@given(
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(["zeros", "border", "reflection"]),
    st.integers(0, 1),
    st.lists(st.integers(2, 4), min_size=2, max_size=3),
    st.sampled_from(["x", "grid", "xgrid"]),
    seeds,
)
def test_grid_sample(mode, padding, corners, sizes, varies, seed):
    assume(mode != "cubic" or len(sizes) == 2)  # the runtime's limit
    rng = np.random.default_rng(seed)
    values = {
        "x": rng.standard_normal((2, 2, *sizes)),
        "grid": rng.uniform(-1.6, 1.6, (2, *(2,) * len(sizes), len(sizes))),
    }
    feeds = {n: v for n, v in values.items() if n in varies}
    held = {n: np.float32(v) for n, v in values.items() if n not in feeds}
    says = f'mode="{mode}", padding_mode="{padding}", align_corners={corners}'
    proto = model(f"GridSample<{says}>(x, grid)", feeds, 2 + len(sizes), opset=20, **held)
    check(proto, feeds, seed=seed)


@few
@given(st.lists(st.integers(2, 4), min_size=2, max_size=3), st.integers(0, 1), seeds)
def test_affine_grid(sizes, corners, seed):
    rank = len(sizes)
    theta = np.random.default_rng(seed).standard_normal((2, rank, rank + 1))
    node = f"AffineGrid<align_corners={corners}>(theta, size)"
    proto = model(node, {"theta": theta}, 2 + rank, opset=20, size=[2, 3, *sizes])
    check(proto, {"theta": theta}, seed=seed)


# ----- Pools -----


@more
@given(
    st.sampled_from(["avg", "max"]),
    st.sampled_from(["half_pixel", "output_half_pixel"]),
    st.integers(0, 2),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.sampled_from([1.0, 0.5]),
    st.booleans(),
    seeds,
)
def test_regions_sampled(mode, where, ratio, sizes, scale, moving, seed):
    """Regions of any size, some beyond the edge; where their sampling is fixed they may vary."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(-1, 5, (3, 2))
    rois = np.concatenate([first, first + rng.uniform(0.5, 6, (3, 2))], axis=1) / scale
    feeds = {"x": rng.standard_normal((2, 2, 5, 6)), "rois": rois}
    moving = moving and ratio > 0
    held = {"batch": np.array([1, 0, 1])} | (
        {} if moving else {"rois": np.float32(feeds.pop("rois"))}
    )
    says = attributes(
        output_height=sizes[0], output_width=sizes[1], sampling_ratio=ratio, spatial_scale=scale
    )
    says += f', mode="{mode}", coordinate_transformation_mode="{where}"'
    proto = model(f"RoiAlign<{says}>(x, rois, batch)", feeds, 4, **held)
    check(proto, feeds, seed=seed)


@few
@given(st.tuples(st.integers(1, 3), st.integers(1, 4)), st.sampled_from([1.0, 0.5]), seeds)
def test_regions_pooled(sizes, scale, seed):
    rng = np.random.default_rng(seed)
    first = rng.uniform(-1, 5, (3, 2))
    corners = np.concatenate([first, first + rng.uniform(0, 6, (3, 2))], axis=1) / scale
    rois = np.concatenate([[[1], [0], [1]], corners], axis=1).astype(np.float32)
    x = rng.standard_normal((2, 2, 5, 6))
    says = f"pooled_shape={list(sizes)}, spatial_scale={scale}"
    check(model(f"MaxRoiPool<{says}>(x, rois)", {"x": x}, 4, rois=rois), {"x": x}, seed=seed)


@few
@given(windows(), st.integers(1, 3), st.booleans(), seeds)
def test_norm_pool(geometry, p, ceil, seed):
    sizes, kernel, strides, dilations, begins, ends = geometry
    says = attributes(
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=begins + ends,
        ceil_mode=int(ceil),
        p=p,
    )
    x = np.random.default_rng(seed).standard_normal((2, 2, *sizes))
    check(model(f"LpPool<{says}>(x)", {"x": x}, 2 + len(sizes), opset=19), {"x": x}, seed=seed)


@few
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), seeds)
def test_norm_of_all_positions(sizes, p, seed):
    x = np.random.default_rng(seed).standard_normal((2, 2, *sizes))
    check(model(f"GlobalLpPool<p={p}>(x)", {"x": x}, 2 + len(sizes)), {"x": x}, seed=seed)


@few
@given(
    st.tuples(st.integers(2, 6), st.integers(2, 6)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    seeds,
)
def test_unpooling(sizes, kernel, stride, sized, seed):
    """What a max pool took, put back; where windows overlap one place is named twice."""
    assume(min(sizes) >= kernel)
    x = np.random.default_rng(seed).permutation(2 * math.prod(sizes)).reshape(1, 2, *sizes) / 9
    says = f"kernel_shape=[{kernel},{kernel}], strides=[{stride},{stride}]"
    lost = [(n - kernel) % stride for n in sizes]
    assume(sized or not any(lost))
    proto = net(
        f"""({text(x.shape)} x) => (float[a,b,c,d] y) {{ p, i = MaxPool<{says}>(x)
        y = MaxUnpool<{says}>(p, i{", shape" if sized else ""}) }}""",
        **({"shape": [1, 2, *sizes]} if sized else {}),
    )
    check(proto, {"x": x}, smooth=kernel <= stride, seed=seed)


# ----- Algebra -----


@few
@given(st.integers(1, 6), st.sampled_from([(), (2,), (2, 3)]), st.booleans(), seeds)
def test_determinant(n, lead, singular, seed):
    x = np.random.default_rng(seed).standard_normal((*lead, n, n))
    if singular and lead and n > 1:
        x[0, ..., -1, :] = x[0, ..., 0, :]
    check(model("Det(x)", {"x": x}, len(lead)) if lead else _scalar(n), {"x": x}, seed=seed)


def _scalar(n):
    return net(f"(float[{n},{n}] x) => (float y) {{ y = Det(x) }}")


@few
@given(
    st.sampled_from([((2, 6, 2), 1), ((1, 5, 3, 1), -3), ((2, 3, 4, 2), 2)]),
    st.sampled_from(["plain", "inverse", "half"]),
    st.sampled_from([None, 3, 8]),
    seeds,
)
def test_fourier_transform(setting, kind, length, seed):
    (shape, axis), rng = setting, np.random.default_rng(seed)
    if kind == "half":
        shape = (*shape[:-1], 1)
    says = {"plain": "", "inverse": "<inverse=1>", "half": "<onesided=1>"}[kind]
    assume(kind != "inverse" or shape[-1] == 2)
    held = {"axis": np.array(axis)} | ({} if length is None else {"n": np.array(length)})
    x = rng.standard_normal(shape)
    node = f"DFT{says}(x, {'' if length is None else 'n'}, axis)"
    check(model(node, {"x": x}, len(shape), opset=20, **held), {"x": x}, seed=seed)


@few
@given(st.integers(4, 8), st.integers(1, 5), st.booleans(), st.integers(0, 1), seeds)
def test_fourier_transform_of_frames(length, step, weighted, onesided, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 17, 1))
    held = {"step": np.array(step), "length": np.array(length)}
    if weighted:
        held["window"] = np.float32(rng.uniform(0.1, 1, length))
    node = f"STFT<onesided={onesided}>(x, step, {'window' if weighted else ''}, length)"
    check(model(node, {"x": x}, 4, **held), {"x": x}, seed=seed)
