"""Operators of classical machine learning: what the kernels compute, and where scores are."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxexplain as ox
from onnxexplain.graph import lower
from onnxexplain.ops import role_of
from onnxexplain.runtime import newest, run_once
from tests.builders import Numeric, weights

DOMAIN = "ai.onnx.ml"
ENGINES = ("eager", "compiled")
X = np.array([[1, -2, 0.5, 3], [-1, -0.5, -2, 0.25], [0.5, 0.75, 2, -3]], np.float32)


def node(op_type, inputs, outputs, **said):
    return helper.make_node(op_type, inputs, outputs, op_type.lower(), domain=DOMAIN, **said)


def model(nodes, outputs, *, opset=18, **held):
    """A model of the float input ``x`` [N,4]; ``outputs`` by name with their types."""
    infos = [
        helper.make_tensor_value_info(n, kind, None) if isinstance(kind, int) else kind
        for n, kind in outputs.items()
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "learnt", [given], infos)
    for name, value in held.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        graph.initializer.append(numpy_helper.from_array(array, name))
    stamps = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 3)]
    return helper.make_model(graph, opset_imports=stamps, ir_version=8)


def with_head(*nodes, many=4, **held):
    """The same with a linear head from ``t``, so that the sum of a row is not all there is."""
    head = helper.make_node("MatMul", ["t", "v"], ["y"], "head")
    return model([*nodes, head], {"y": TensorProto.FLOAT}, **held, **weights(1, v=(many, 3)))


def agrees(proto, x=X, smooth=True):
    """The kernel's own answer; derivatives by difference, eager, compiled; all shared out."""
    lowered = lower(proto, {"x": x.shape}, run_once, "float32", newest(), role_of)
    assert {n.domain for n in lowered.nodes} == {""}
    theirs = run_once(proto, {"x": x}, ["y"])[0]
    assert np.allclose(run_once(lowered.proto, {"x": x}, ["y"])[0], theirs, atol=1e-6)
    rng = np.random.default_rng(0)
    seed = rng.standard_normal(theirs.shape).astype(np.float32)
    exact = ox.explain(proto, x, "gradient", target=seed, engine="eager", dtype="float64")
    if smooth:
        direction = {"x": rng.standard_normal(x.shape)}
        numeric = Numeric(proto, {"x": x}, "y", seed).along(direction)
        ours = (exact.attributions["x"] * direction["x"]).sum()
        assert ours == pytest.approx(numeric, rel=1e-6, abs=1e-7)
    for engine in ENGINES:
        e = ox.explain(proto, x, "gradient", target=seed, engine=engine)
        assert np.allclose(e.attributions["x"], exact.attributions["x"], atol=1e-5)
        assert np.abs(ox.explain(proto, x, target=seed, engine=engine).residual).max() < 1e-6
    return exact.attributions["x"]


# ----- Before a model -----


def test_scaler():
    agrees(with_head(node("Scaler", ["x"], ["t"], offset=[1.0, 2, 3, 4], scale=[2.0, 1, 0.5, -1])))


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(norm):
    agrees(with_head(node("Normalizer", ["x"], ["t"], norm=norm)))
    zeros = np.zeros((2, 4), np.float32)
    proto = with_head(node("Normalizer", ["x"], ["t"], norm=norm))
    for engine in ENGINES:
        assert np.isfinite(ox.explain(proto, zeros, engine=engine).attributions["x"]).all()


@pytest.mark.parametrize("missing", [0.5, float("nan")])
def test_imputer(missing):
    """What was missing gets nothing: it is a constant of the file."""
    said = {"imputed_value_floats": [9.0, 8, 7, 6], "replaced_value_float": missing}
    proto = with_head(node("Imputer", ["x"], ["t"], **said))
    gradient = agrees(proto, smooth=np.isnan(missing))
    gone = missing == X
    assert gone.any() != np.isnan(missing)
    assert not gradient[gone].any()
    assert gradient[~gone].all()


def test_binarizer():
    """A step has no derivative: all it gives is a constant."""
    one = node("Binarizer", ["x"], ["b"], threshold=0.4)
    proto = with_head(one, helper.make_node("Mul", ["b", "x"], ["t"], "mul"))
    gradient = agrees(proto)
    assert not gradient[X <= 0.4].any()
    assert gradient[X > 0.4].all()


def test_feature_vectorizer():
    nodes = [
        helper.make_node("Sin", ["x"], ["s"], "sin"),
        node("FeatureVectorizer", ["x", "s"], ["t"], inputdimensions=[4, 4]),
    ]
    agrees(with_head(*nodes, many=8))


def test_array_feature_extractor():
    one = node("ArrayFeatureExtractor", ["x", "index"], ["t"])
    gradient = agrees(with_head(one, many=3, index=np.array([[2, 0, 2]])))
    assert not gradient[:, [1, 3]].any()


# ----- Linear models -----


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_linear_regressor(targets, transform):
    said = {
        "coefficients": np.linspace(-1, 1, 4 * targets),
        "intercepts": [0.5] * targets,
        "targets": targets,
        "post_transform": transform,
    }
    agrees(with_head(node("LinearRegressor", ["x"], ["t"], **said), many=targets))


def classifier(transform, rows=3, names=("a", "b", "c")):
    kind = "strings" if isinstance(names[0], str) else "ints"
    return node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        coefficients=np.linspace(-1, 1, 4 * rows) ** 3,
        intercepts=np.linspace(-0.5, 0.5, rows),
        post_transform=transform,
        **{f"classlabels_{kind}": list(names)},
    )


LABELLED = {"label": TensorProto.STRING, "p": TensorProto.FLOAT}


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize(("rows", "names"), [(3, "abc"), (2, (0, 1)), (1, (0, 1)), (1, "ab")])
def test_linear_classifier(transform, rows, names):
    """Scores, probabilities and labels are the kernel's; what is explained are the scores."""
    kind = TensorProto.STRING if isinstance(names[0], str) else TensorProto.INT64
    proto = model([classifier(transform, rows, names)], LABELLED | {"label": kind})
    lowered = lower(proto, {"x": X.shape}, run_once, "float32", newest(), role_of)
    ours, theirs = (run_once(p, {"x": X}, ["label", "p"]) for p in (lowered.proto, proto))
    assert np.array_equal(ours[0], theirs[0])
    assert np.allclose(ours[1], theirs[1], atol=1e-6)
    weight = (np.linspace(-1, 1, 4 * rows) ** 3).reshape(rows, 4)
    plain = X @ weight.T + np.linspace(-0.5, 0.5, rows)
    if rows == 1:
        squashed = transform == "LOGISTIC"
        plain = np.concatenate([-plain if squashed else 1 - plain, plain], 1)
        weight = np.concatenate([-weight, weight])
    for engine in ENGINES:
        e = ox.explain(proto, X, target=1, engine=engine)
        squashed = transform == "LOGISTIC" or (transform == "SOFTMAX" and rows > 1)
        assert e.output == ("p/scores" if squashed else "p")
        assert np.allclose(e.logits, plain, atol=1e-5)
        assert np.allclose(e.attributions["x"], X * weight[1], atol=1e-5)
        assert np.abs(e.residual).max() < 1e-6


def zipped(last, name="p"):
    """A model whose probabilities are a list of dictionaries at its end."""
    maps = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    end = helper.make_value_info("odds", helper.make_sequence_type_proto(maps))
    one = node("ZipMap", [name], ["odds"], classlabels_strings=["a", "b", "c"])
    return model([*last, one], {"label": TensorProto.STRING, "odds": end})


@pytest.mark.parametrize("transform", ["SOFTMAX", "LOGISTIC"])
def test_through_a_list_of_dictionaries(transform):
    """As scikit-learn's classifiers end: normalised, then zipped with the labels."""
    nodes = [classifier(transform), node("Normalizer", ["p"], ["n"], norm="L1")]
    proto = zipped(nodes, "n")
    plain = model([classifier(transform)], LABELLED)
    for engine in ENGINES:
        e, other = (ox.explain(p, X, target=2, engine=engine) for p in (proto, plain))
        assert e.output == other.output == "p/scores"
        assert np.allclose(e.attributions["x"], other.attributions["x"])
        odds = ox.explain(proto, X, target=2, engine=engine, output="n")
        told = run_once(proto, {"x": X}, ["odds"])[0]
        assert [row["c"] for row in told] == pytest.approx(odds.score)


def test_old_opsets():
    proto = zipped([classifier("SOFTMAX")])
    proto.opset_import[0].version, proto.opset_import[1].version = 9, 1
    proto.ir_version = 4
    assert np.abs(ox.explain(proto, X, target=0).residual).max() < 1e-6
    proto.opset_import.append(helper.make_opsetid("", 9))  # some exporters say it twice
    assert np.abs(ox.explain(proto, X, target=0).residual).max() < 1e-6


# ----- Trees -----


def test_trees_are_named():
    said = {
        "n_targets": 1, "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.0, 0, 0], "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0], "target_ids": [0, 0], "target_nodeids": [1, 2],
        "target_treeids": [0, 0], "target_weights": [-1.0, 1.0],
    }  # fmt: skip
    proto = model([node("TreeEnsembleRegressor", ["x"], ["y"], **said)], {"y": TensorProto.FLOAT})
    assert run_once(proto, {"x": X}, ["y"])[0].ravel().tolist() == [1, -1, 1]
    with pytest.raises(ox.UnsupportedOperator, match=r"answers alike all around.*occlusion"):
        ox.explain(proto, X)


def test_what_is_not_known_is_named():
    proto = model([classifier("PROBIT")], LABELLED)
    with pytest.raises(ox.UnsupportedOperator, match=r"post_transform `PROBIT`.*linearclassifier"):
        ox.explain(proto, X)
