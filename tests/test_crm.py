"""Class-selective relevance: what a place's absence changes, squared."""

import numpy as np
import onnx
import pytest

import onnxexplain as ox
from onnxexplain import head
from onnxexplain.runtime import evaluate
from tests.builders import net, weights
from tests.test_cams import GAP

HELD = weights(1, w=(6, 3, 3, 3), b=(6,), u=(10, 6), d=(10,), v=(4, 10), c=(4,), w2=(6, 6, 3, 3))
MLP = """g = GlobalAveragePool(a)  f = Flatten(g)  i = Gemm<transB=1>(f, u, d)  r = Relu(i)
    y = Gemm<transB=1>(r, v, c)"""


def with_head(n: str, middle: str, end: str = MLP, **held):
    """``x`` through one convolution to ``q``, ``middle`` to ``a``, and a head that bends."""
    return net(
        f"""(float[{n},3,5,4] x) => (float[{n},4] y) {{
            h = Conv<pads=[1,1,1,1]>(x, w, b)  q = Relu(h)  {middle}  {end} }}""",
        **HELD,
        **held,
    )


NETS = {
    "two products": with_head("N", "a = Identity(q)"),
    "fixed batch": with_head("1", "a = Identity(q)"),
    "fixed batch of two": with_head("2", "a = Identity(q)"),
    "written for one": with_head(
        "1",
        "z = Reshape(q, flat)  a = Reshape(z, back)",
        flat=np.array([1, 120]),
        back=np.array([1, 6, 5, 4]),
    ),
    "a branch runs past": with_head(
        "N", "k = Conv<pads=[1,1,1,1]>(h, w2)  s = Relu(k)  a = Add(s, q)"
    ),
    "samples see each other": with_head("N", "m = Softmax<axis=0>(q)  a = Mul(q, m)"),
    "probabilities": with_head(
        "N", "a = Identity(q)", MLP.replace("y =", "l =") + " y = Softmax(l)"
    ),
    "maximum": with_head("N", "a = MaxPool<kernel_shape=[2,2], strides=[1,1]>(q)"),
}


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 5, 4)).astype(np.float32)


def by_removal(proto, x, layer, target, combined):
    """Set every place of the layer to zero in turn, in float64: [N,h,w]."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    feeds = {"x": x.astype(np.float64)}
    whole = evaluate(wide, feeds, [layer, "y"])
    without = onnx.ModelProto()
    without.CopyFrom(wide)
    kept = [node for node in wide.graph.node if layer not in node.output]
    del without.graph.node[:]
    without.graph.node.extend(kept)
    without.graph.input.append(onnx.ValueInfoProto(name=layer))
    maps = whole[layer]
    found = np.zeros((len(x), *maps.shape[2:]))
    for n, i, j in np.ndindex(found.shape):
        changed = maps.copy()
        changed[n, :, i, j] = 0
        y = evaluate(without, feeds | {layer: changed}, ["y"])["y"]
        change = (whole["y"] - y)[n] ** 2
        found[n, i, j] = change.sum() if combined else change[target]
    return found


# ----- Behind a pooled linear head -----


def test_it_is_the_square_of_the_cam(rng):
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    cams = ox.explain(GAP, x, "cam", targets="all").attributions["a"]
    apart = ox.explain(GAP, x, "crm", targets="all")
    assert apart.layer == "a"
    np.testing.assert_allclose(apart.attributions["a"], (cams / 64) ** 2, rtol=1e-4, atol=1e-8)
    together = ox.explain(GAP, x, "crm", combined=True).attributions["a"]
    np.testing.assert_allclose(together, apart.attributions["a"].sum(axis=0), rtol=1e-5)
    assert together.dtype == np.float32


def test_the_sign_of_a_class_does_not_matter(rng):
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    turned = onnx.ModelProto()
    turned.CopyFrom(GAP)
    held = next(t for t in turned.graph.initializer if t.name == "v")
    v = onnx.numpy_helper.to_array(held).copy()
    v[2] *= -1
    held.CopyFrom(onnx.numpy_helper.from_array(v, "v"))
    before, after = (ox.explain(p, x, "crm", target=2).attributions["a"] for p in (GAP, turned))
    np.testing.assert_array_equal(before, after)


def test_a_contrast_is_the_square_of_the_difference(rng):
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
    cams = ox.explain(GAP, x, "cam", targets="all").attributions["a"] / 64
    found = ox.explain(GAP, x, "crm", target=0, against=3).attributions["a"]
    np.testing.assert_allclose(found, (cams[0] - cams[3]) ** 2, rtol=1e-3, atol=1e-7)


# ----- Behind any other head -----


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_it_is_what_removal_changes(name, combined, x):
    proto = NETS[name]
    layer = "s" if name == "a branch runs past" else "q"
    output = "y" if name == "probabilities" else None
    e = ox.explain(proto, x, "crm", layer=layer, output=output, target=2, combined=combined)
    alone = name in ("fixed batch", "written for one", "samples see each other")
    batches = [x[:1], x[1:]] if alone else [x]
    expected = [by_removal(proto, batch, layer, 2, combined) for batch in batches]
    found = e.attributions[layer]
    assert found.shape == (2, 1, 5, 4)
    assert found.min() >= 0
    expected = np.concatenate(expected)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_channels_may_come_last(x):
    held = {n: v for n, v in HELD.items() if n != "w2"}
    last = net(
        f"""(float[N,5,4,3] x) => (float[N,4] y) {{
            t = Transpose<perm=[0,3,1,2]>(x)  h = Conv<pads=[1,1,1,1]>(t, w, b)
            z = Transpose<perm=[0,2,3,1]>(h)  q = Relu(z)  a = Transpose<perm=[0,3,1,2]>(q)
            {MLP} }}""",
        **held,
    )
    first = ox.explain(NETS["two products"], x, "crm", layer="q", target=1).attributions["q"]
    e = ox.explain(last, np.moveaxis(x, 1, -1), "crm", layer="q", target=1)
    np.testing.assert_allclose(e.attributions["q"], first, rtol=1e-3, atol=1e-8)
    assert e.heatmap().shape == (2, 5, 4)


def test_what_fits_the_memory_makes_no_difference(x, monkeypatch):
    whole = ox.explain(NETS["two products"], x, "crm", layer="q", target=1).attributions["q"]
    ran = []
    batch = head.Head._batch
    monkeypatch.setattr(head.Head, "_batch", lambda *a: ran.append(a[2]) or batch(*a))
    for room, many in ((4000, 3), (1, None)):
        monkeypatch.setattr(head, "ROOM", room)
        ran.clear()
        piecewise = ox.explain(NETS["two products"], x, "crm", layer="q", target=1)
        np.testing.assert_allclose(piecewise.attributions["q"], whole, rtol=1e-3, atol=1e-9)
        assert set(ran) == ({many} if many else set())


def test_rows_run_as_few_at_a_time_as_there_are_samples(x, monkeypatch):
    """What runs past the layer must be that of each row's own sample."""
    net_, asked = NETS["a branch runs past"], {"layer": "s", "target": 2}
    whole = ox.explain(net_, x, "crm", **asked).attributions["s"]
    monkeypatch.setattr(head.Head, "_bytes", lambda self: head.ROOM // 2)
    np.testing.assert_allclose(
        ox.explain(net_, x, "crm", **asked).attributions["s"], whole, rtol=1e-3, atol=1e-9
    )


def test_samples_that_see_each_other_are_not_run_together(x, monkeypatch):
    kept = []
    together = head.Head._together
    monkeypatch.setattr(head.Head, "_together", lambda *a: kept.append(together(*a)) or kept[-1])
    ox.explain(NETS["samples see each other"], x[:1], "crm", layer="q", target=0)
    ox.explain(NETS["two products"], x[:1], "crm", layer="q", target=0)
    assert [run is not None for run in kept] == [False, True]


@pytest.mark.parametrize("name", ["two products", "linear"])
def test_the_absence_of_nothing_changes_nothing(name, x):
    end = "g = GlobalAveragePool(a)  y = Flatten(g)" if name == "linear" else MLP
    held = {n: v for n, v in HELD.items() if n in ("u", "d", "v", "c") and name != "linear"}
    proto = net(
        f"(float[N,3,5,4] x) => (float[N,K] y) {{ a = Conv(x, k)  {end} }}",
        k=np.float32(np.arange(18)).reshape(6, 3, 1, 1),
        **held,
    )
    x[:, :, 1:3, 2] = 0
    found = ox.explain(proto, x, "crm", layer="a", target=1).attributions["a"]
    assert not found[:, :, 1:3, 2].any()
    assert (np.delete(found, 2, axis=3) > 0).mean() > 0.5


def test_in_float64_and_for_any_combination(x):
    wide = ox.explain(NETS["two products"], x, "crm", layer="q", target="sum", dtype="float64")
    narrow = ox.explain(NETS["two products"], x, "crm", layer="q", target=np.ones((2, 4)))
    assert wide.attributions["q"].dtype == np.float64
    np.testing.assert_allclose(
        narrow.attributions["q"], wide.attributions["q"], rtol=1e-3, atol=1e-8
    )


# ----- Refusals -----


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "all"}, "one layer at a time"),
        ({"layer": "f"}, "no positions"),
        ({"engine": "compiled"}, "engine=eager"),
        ({"combined": 1}, "true or false"),
    ],
)
def test_it_says_what_it_cannot_do(x, options, said):
    with pytest.raises(ox.MethodError, match=said):
        ox.explain(NETS["two products"], x, "crm", target=0, **options)


def test_no_layer_has_a_score(x):
    e = ox.explain(NETS["two products"], x, "crm", target=0, layers=["q"])
    assert e.layers["q"].activation.shape == (2, 6, 5, 4)
    for what in ("score", "score_map", "statistics"):
        with pytest.raises(ox.MethodError, match="crm shares nothing out"):
            getattr(e.layers["q"], what)
