"""Nothing to fear: whatever is handed in, one error of the tree, in one line."""

import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnxexplain as ox
from tests.builders import net
from tests.nets import NETS, data

PROTO = NETS["relu"]
X = data(PROTO, 2)["x"]


def fails(kind, words, action):
    """Run ``action``; it must end in one error of ``kind``, in one line that holds ``words``."""
    with pytest.raises(ox.OnnxExplainError) as caught:
        action()
    assert type(caught.value) is kind, caught.value
    text = str(caught.value)
    assert "\n" not in text
    for word in [words] if isinstance(words, str) else words:
        assert word in text
    assert len(text) < 500


# ----- Files -----


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 64,
        b"hello, this is text",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 99,
        os.urandom(999),
    ],
    ids=["empty", "zeros", "text", "png", "random"],
)
def test_not_onnx(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    fails(ox.ModelError, ["not an ONNX model", str(path)], lambda: ox.load(path))
    fails(ox.ModelError, "not an ONNX model", lambda: ox.load(content))


@pytest.mark.parametrize("part", [1, 10, 100, 0.25, 0.5, 0.75, 0.99])
def test_cut_short(part, tmp_path):
    whole = PROTO.SerializeToString()
    at = int(part * len(whole)) if isinstance(part, float) else part
    path = tmp_path / "short.onnx"
    path.write_bytes(whole[:at])
    fails(ox.ModelError, "", lambda: ox.explain(path, X))


def test_no_such_file(tmp_path):
    fails(ox.ModelError, "no such file", lambda: ox.load(tmp_path / "missing.onnx"))
    fails(ox.ModelError, "missing.onnx", lambda: ox.load(str(tmp_path / "missing.onnx")))
    fails(ox.ModelError, "cannot be read", lambda: ox.load(tmp_path))


@settings(max_examples=150)
@given(st.data())
def test_damaged_bytes(drawn):
    """A file with bytes changed either works or is refused by name; nothing else ever comes out."""
    content = bytearray(PROTO.SerializeToString())
    for _ in range(drawn.draw(st.integers(1, 4))):
        at = drawn.draw(st.integers(0, len(content) - 1))
        content[at] = drawn.draw(st.integers(0, 255))
    try:
        ox.explain(
            bytes(content),
            X[:1],
            target=0,
            engine=drawn.draw(st.sampled_from(["eager", "compiled"])),
        )
    except ox.OnnxExplainError as error:
        assert "\n" not in str(error)


# ----- Graphs -----


def test_a_tensor_that_nothing_makes():
    proto = net("(float[N,3] x) => (float[N,3] y) { y = Add(x, ghost) }")
    fails(ox.ModelError, ["Add_0", "ghost"], lambda: ox.load(proto))


def test_an_output_that_nothing_makes():
    proto = net("(float[N,3] x) => (float[N,3] ghost) { y = Relu(x) }")
    fails(ox.ModelError, "ghost", lambda: ox.load(proto))


def test_shapes_that_do_not_fit():
    proto = net("(float[N,3] x) => (float[N,4] y) { y = MatMul(x, w) }", w=np.ones((5, 4)))
    x = np.ones((1, 3), np.float32)
    fails(ox.ModelError, ["do not fit", "MatMul"], lambda: ox.explain(proto, x))


def test_a_cycle():
    proto = net("(float[N,3] x) => (float[N,3] y) { a = Add(x, b)  b = Relu(a)  y = Neg(b) }")
    fails(ox.ModelError, "`b`", lambda: ox.explain(proto, np.ones((1, 3), np.float32)))


@pytest.mark.parametrize(
    ("operator", "given"), [("ConstantOfShape", ["huge"]), ("Expand", ["one", "huge"])]
)
def test_a_constant_that_would_fill_the_memory(operator, given):
    huge = np.array([1 << 14, 1 << 15], np.int64)
    held = {"huge": huge, "one": np.ones((1, 1), np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node(operator, given, ["big"], "/bomb"),
            helper.make_node("ReduceSum", ["big"], ["sum"], "/sum", keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"], "/add"),
        ],
        "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v, n) for n, v in held.items() if n in given],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    fails(
        ox.ModelError, ["/bomb", "refused"], lambda: ox.explain(proto, np.ones((1, 3), np.float32))
    )


def test_a_chain_of_constants_that_would_fill_the_memory():
    """Each step is small on paper; the product of all of them is not."""
    proto = net(
        """(float[N,3] x) => (float[N,3] y) {
            a = Tile(one, times)  b = Tile(a, times)
            s = ReduceSum<keepdims=0>(b)  y = Add(x, s) }""",
        one=np.ones((1,)),
        times=np.array([1 << 17]),
    )
    fails(ox.ModelError, "refused", lambda: ox.explain(proto, np.ones((1, 3), np.float32)))


def test_an_operator_without_a_way_back():
    """It is named with its node, before anything runs."""
    proto = net(
        """(float[N,3] x) => (float[N,3] y) { h = Relu(x)  e = Det(m) f = Add(h, e) y = Neg(f) }""",
        m=np.eye(2),
    )
    x = np.ones((1, 3), np.float32)
    ox.explain(proto, x)  # aside of the way, it may be anything
    proto = net(
        "(float[N,3,3] x) => (float[N,3,3] y) { h = Relu(x)  y = com.microsoft.Inverse(h) }",
        domain="com.microsoft",
    )
    words = ["no way back through com.microsoft.Inverse (node `Inverse_1`)", "wrt=`y`"]
    fails(ox.UnsupportedOperator, words, lambda: ox.Explainer(proto))
    proto = net("(float[N,3] x) => (float[N,3] y) { y = other.Magic(x) }", domain="other")
    fails(ox.UnsupportedOperator, "other.Magic", lambda: ox.Explainer(proto))


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_score_that_is_no_number(engine):
    proto = net("(float[N,3] x) => (float[N,3] y) { h = Div(x, z)  y = Sub(h, h) }", z=0.0)
    x = np.ones((1, 3), np.float32)
    fails(ox.ModelError, "not finite", lambda: ox.explain(proto, x, target=0, engine=engine))


def test_a_tensor_that_would_fill_the_memory():
    proto = net("(float[N,3] x) => (float[a,b] y) { y = Pad(x, huge) }", huge=[0, 0, 0, 1 << 40])
    fails(ox.ModelError, "refused", lambda: ox.explain(proto, np.ones((1, 3), np.float32)))


def test_attributes_that_do_not_fit():
    proto = net("(float[N,3] x) => (float[N,3] y) { h = LeakyRelu(x)  y = Relu(h) }")
    proto.graph.node[0].attribute.append(helper.make_attribute("beta", 2.0))
    fails(ox.ModelError, "LeakyRelu_0", lambda: ox.explain(proto, np.ones((1, 3), np.float32)))


def test_names_that_break_lines():
    """A name out of the file cannot break the line, nor command the terminal."""
    proto = net("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    proto.graph.node[0].input[0] = "gho\nst\x1b[2J"
    fails(ox.ModelError, "gho\\nst\\x1b[2J", lambda: ox.load(proto))


def test_a_way_into_a_fixed_slot():
    proto = net(
        """(float[N,3] x) => (float[N,3] y) { h = Relu(x)  m = ReduceMean<keepdims=0>(h)
        y = Clip(h, m) }"""
    )
    x = np.ones((1, 3), np.float32)
    fails(ox.UnsupportedOperator, ["Clip_2", "input 1"], lambda: ox.explain(proto, x))


def test_integers_have_no_attribution():
    proto = net("(int64[N,3] x) => (float[N,3] y) { c = Cast<to=1>(x)  y = Relu(c) }")
    x = np.ones((1, 3), np.int64)
    fails(ox.MethodError, "does not depend on", lambda: ox.explain(proto, x))
    assert ox.explain(proto, x, wrt="c", target=1).score == pytest.approx([1.0])


def test_no_float_output():
    proto = net("(float[N,3] x) => (int64[N] y) { y = ArgMax<axis=1, keepdims=0>(x) }")
    fails(ox.ModelError, "output=", lambda: ox.explain(proto, np.ones((1, 3), np.float32)))


def test_metadata_that_is_no_json():
    proto = onnx.ModelProto()
    proto.CopyFrom(PROTO)
    helper.set_model_props(proto, {"onnxexplain.labels": "[not json"})
    fails(ox.ModelError, "onnxexplain.labels", lambda: ox.explain(proto, X))


# ----- External data -----


def external(folder: Path, location: str, length: int | None = None) -> Path:
    """Write a model whose weight lies in the file ``location``."""
    proto = net("(float[N,3] x) => (float[N,2] y) { y = Gemm(x, w) }")
    weight = proto.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3, 2])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    if length is not None:
        weight.external_data.add(key="length", value=str(length))
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder for the model, beside a file that is none of its business."""
    (tmp_path / "secret.bin").write_bytes(b"\x00" * 24)
    inside = tmp_path / "model"
    inside.mkdir()
    return inside


def test_external_data_in_an_inner_graph(folder):
    """A tensor hidden in a branch is looked at like any other."""
    proto = net("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    branch = helper.make_graph(
        [], "branch", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [6])]
    )
    weight = branch.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[6])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.node.append(
        helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch)
    )
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    fails(ox.ModelError, ["`w`", "outside"], lambda: ox.load(path))


def test_external_data_of_a_proto(folder):
    (folder / "w.bin").write_bytes(b"\x00" * 24)
    proto = onnx.load(external(folder, "w.bin"), load_external_data=False)
    fails(ox.ModelError, "give the path", lambda: ox.load(proto))
    assert ox.load(onnx.load(folder / "model.onnx")).outputs


def test_external_data_is_read(folder):
    (folder / "w.bin").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    e = ox.explain(external(folder, "w.bin"), np.ones((1, 3), np.float32), target=0)
    assert e.score == pytest.approx([6.0])


@pytest.mark.parametrize(
    "location", ["../secret.bin", "sub/../../secret.bin", "..\\secret.bin", "C:\\secret.bin"]
)
def test_external_data_outside(folder, location):
    fails(ox.ModelError, ["`w`", "outside"], lambda: ox.load(external(folder, location)))


def test_external_data_absolute(folder):
    absolute = str(folder.parent / "secret.bin")
    fails(ox.ModelError, "outside", lambda: ox.load(external(folder, absolute)))


def test_external_data_through_a_link(folder):
    (folder / "w.bin").symlink_to(folder.parent / "secret.bin")
    fails(ox.ModelError, "outside", lambda: ox.load(external(folder, "w.bin")))
    (folder / "sub").symlink_to(folder.parent)
    fails(ox.ModelError, "outside", lambda: ox.load(external(folder, "sub/secret.bin")))


def test_external_data_missing_or_short(folder):
    fails(ox.ModelError, ["w.bin", "missing"], lambda: ox.load(external(folder, "w.bin")))
    (folder / "w.bin").write_bytes(b"\x00" * 8)
    x = np.ones((1, 3), np.float32)
    fails(ox.ModelError, "", lambda: ox.explain(external(folder, "w.bin"), x))
    fails(ox.ModelError, "", lambda: ox.explain(external(folder, "w.bin", 1 << 40), x))
    content = external(folder, "w.bin").read_bytes()
    fails(ox.ModelError, "give the path", lambda: ox.load(content))


# ----- Inputs -----

BAD = np.full_like(X, np.nan)
INFINITE = X.copy()
INFINITE[0, 0, 0, 0] = np.inf


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"image": X}, ["no input `image`", "nearest: x"]),
        ({}, "`x` is missing"),
        ({"x": X, "z": X}, "no input `z`"),
        (X[0], "batch axis missing"),
        (X[:, :2], ["[2, 2, 8, 8]", "[N, 3, 8, 8]"]),
        (X[None, None], "[1, 1, 2, 3, 8, 8]"),
        (X[:0], "[0, 3, 8, 8]"),
        (BAD, "NaN"),
        (INFINITE, "infinite"),
        (X.astype(np.float64) * 1e300, "infinite"),
        (X.astype(np.int64), ["int64", "float32"]),
        (X.astype(bool), "bool"),
        (X.astype(complex), "complex"),
        (X.astype(str), ""),
        (np.array([[object()]]), "object"),
        ("a string", ""),
        (None, ""),
        ([[1, 2], [3]], ""),
    ],
    ids=range(18),
)
@pytest.mark.parametrize("method", ["score-propagation", "grad-cam"])
def test_inputs(inputs, words, method):
    fails(ox.InputError, words, lambda: ox.explain(PROTO, inputs, method))


def test_two_inputs_by_name():
    proto = NETS["two-inputs"]
    feeds = data(proto, 2)
    fails(ox.InputError, ["2 inputs", "by name"], lambda: ox.explain(proto, feeds["x"]))
    fails(ox.InputError, "`z` is missing", lambda: ox.explain(proto, {"x": feeds["x"]}))


def test_batches_that_differ():
    """Two inputs of unlike batch sizes, which the network cannot bring together."""
    proto = NETS["two-inputs"]
    feeds = {"x": data(proto, 2)["x"], "z": data(proto, 3)["z"]}
    with pytest.raises(ox.OnnxExplainError):
        ox.explain(proto, feeds)


# ----- Targets -----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 4}, ["out of range", "0 to 3"]),
        ({"target": -1}, "out of range"),
        ({"target": 10**12}, "out of range"),
        ({"target": np.array([0, 9])}, "target 9 is out of range"),
        ({"target": np.array([0, 1, 2])}, ""),
        ({"target": "cat"}, "labels="),
        (
            {"target": "cab", "labels": ["cat", "car", "dog", "cow"]},
            ["no label `cab`", "nearest: ca"],
        ),
        ({"target": (1, 2)}, "no element"),
        ({"target": (9,)}, "no element"),
        ({"target": 1.5}, ""),
        ({"target": None, "targets": []}, "empty"),
        ({"targets": "every"}, "all"),
        ({"targets": [0, 7]}, "out of range"),
        ({"target": 1, "targets": [0]}, "not both"),
        ({"target": np.ones((2, 5))}, ""),
        ({"target": 0, "against": 9}, "out of range"),
        ({"target": np.full((2, 4), np.nan)}, ""),
        ({"target": {"a": 1}}, ""),
    ],
    ids=range(18),
)
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_targets(options, words, engine):
    fails(ox.MethodError, words, lambda: ox.explain(PROTO, X, engine=engine, **options))


# ----- Names -----


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (ox.MethodError, {"method": "score-propagaton"}, ["no method", "score-propagation"]),
        (ox.MethodError, {"method": "grad_cam"}, "nearest: grad-cam"),
        (ox.MethodError, {"prior": "gaussian"}, ["prior", "gauss, flat, delta"]),
        (ox.MethodError, {"priors": "gauss"}, ["no option `priors`", "prior"]),
        (ox.MethodError, {"ties": "last"}, "first, share"),
        (ox.MethodError, {"method": "grad-cam", "relu": "yes"}, "true or false"),
        (ox.MethodError, {"method": "grad-cam", "layer": "hh"}, ["no tensor `hh`", "nearest: h"]),
        (ox.MethodError, {"method": "grad-cam", "layer": "w"}, "no tensor `w`"),
        (ox.MethodError, {"layers": ["hh"]}, ["no tensor `hh`", "nearest: h"]),
        (ox.MethodError, {"wrt": "hh"}, ["`hh`", "nearest: h"]),
        (ox.MethodError, {"wrt": "w"}, "`w`"),
        (ox.MethodError, {"output": "logit"}, ["no tensor `logit`", "nearest:"]),
        (ox.MethodError, {"engine": "fast"}, "auto, compiled, eager"),
        (ox.MethodError, {"dtype": "float16"}, "float32, float64"),
        (ox.MethodError, {"dtype": "float64", "engine": "compiled"}, "eager"),
        (ox.DeviceError, {"device": "tpu"}, "cpu, cuda, auto"),
        (ox.DeviceError, {"providers": ["NoSuchProvider"]}, ["NoSuchProvider", "CPUExecution"]),
    ],
    ids=range(17),
)
def test_names(kind, options, words):
    fails(kind, words, lambda: ox.explain(PROTO, X, **options))


def test_cuda_where_there_is_none():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    fails(ox.DeviceError, ["CUDA", "onnxexplain[gpu]"], lambda: ox.explain(PROTO, X, device="cuda"))


def test_an_unknown_layer_of_an_explanation():
    e = ox.explain(PROTO, X)
    fails(ox.MethodError, ["no tensor `hh`", "nearest: h"], lambda: e.layers["hh"])
    fails(ox.MethodError, "no positions", lambda: e.layers["y"].score_map)


# ----- Weights of the DR network -----


def test_weights_of_something_else(tmp_path):
    out = tmp_path / "out.onnx"
    fails(ox.InputError, "no such file", lambda: ox.dr_network(tmp_path / "w.npz", out))
    (tmp_path / "w.npz").write_bytes(b"PK\x03\x04 not really")
    fails(ox.InputError, "no array file", lambda: ox.dr_network(tmp_path / "w.npz", out))
    (tmp_path / "junk.npz").write_text("no archive")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], object))
    for name in ("pickled.npz", "junk.npz"):
        said = "pickled objects, which are never loaded"
        fails(ox.InputError, said, lambda name=name: ox.dr_network(tmp_path / name, out))
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("rf3.conv.weight", "some words")
    said = "`rf3.conv.weight` in it is no array"
    fails(ox.InputError, said, lambda: ox.dr_network(tmp_path / "raw.npz", out))
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    fails(ox.InputError, "DR network", lambda: ox.dr_network(tmp_path / "x.npz", out))
    assert not out.exists()
