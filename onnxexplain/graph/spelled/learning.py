"""Operators of classical machine learning (``ai.onnx.ml``), as scikit-learn pipelines hold them."""

import numpy as np
import onnx

from onnxexplain.graph.endings import before
from onnxexplain.graph.spelled._spelling import Scope, spelling

DOMAIN = "ai.onnx.ml"

_TRANSFORMS = {"NONE": "Identity", "SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}

TREES = frozenset({"TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"})


def without_derivative(op_type: str) -> str:
    """Return why an operator has no derivative, as the middle of a sentence; empty if it may."""
    if op_type in TREES:
        return (
            ", which answers alike all around each point, so that no derivative tells what it "
            "rests on (methods that change the input do: occlusion, kernel-shap),"
        )
    return ""


# ----- Behind a model -----


def unzip(model: onnx.ModelProto) -> None:
    """Let outputs that are lists of dictionaries be the tensors these are made of, in place."""
    made = {t for node in model.graph.node if node.op_type == "ZipMap" for t in node.output}
    for value in model.graph.output:
        if value.name in made:
            value.ClearField("type")


@spelling("ZipMap", domain=DOMAIN)
def zip_map(scope: Scope) -> bool:
    """The tensor that is zipped with the labels."""
    scope.write("Identity", *scope.node.inputs, to=scope.node.outputs[0])
    return True


# ----- Before a model -----


@spelling("Scaler", domain=DOMAIN)
def scaler(scope: Scope) -> bool:
    """``(x - offset) * scale``, by feature."""
    said = scope.node.attributes
    offset = scope.constant(np.float32(said.get("offset", [0.0])))
    scale = scope.constant(np.float32(said.get("scale", [1.0])))
    centred = scope.write("Sub", _floats(scope, scope.node.inputs[0]), offset)
    scope.write("Mul", centred, scale, to=scope.node.outputs[0])
    return True


@spelling("Normalizer", domain=DOMAIN)
def normalizer(scope: Scope) -> bool:
    """Each row divided by its sum of sizes, its length, or its largest element."""
    kind = scope.node.attributes.get("norm", "MAX")
    x, (y,) = _floats(scope, scope.node.inputs[0]), scope.node.outputs
    if kind in ("L1", "L2"):
        scope.write("LpNormalization", x, to=y, axis=-1, p=int(kind[1]))
        return True
    largest = scope.write("ReduceMax", x, scope.constant(np.array([-1])))
    none = scope.write("Equal", largest, scope.constant(0.0))
    divisor = scope.write("Where", none, scope.constant(1.0), largest)
    scope.write("Div", x, divisor, to=y)
    return True


@spelling("Imputer", domain=DOMAIN)
def imputer(scope: Scope) -> bool:
    """Values that are missing replaced by those given, by feature."""
    said, (x,) = scope.node.attributes, scope.node.inputs
    if "imputed_value_floats" not in said:
        return scope.refuse("of integers")
    missing = said.get("replaced_value_float", 0.0)
    if np.isnan(missing):
        where = scope.write("IsNaN", x)
    else:
        where = scope.write("Equal", x, scope.constant(float(missing)))
    given = scope.constant(np.float32(said["imputed_value_floats"]))
    scope.write("Where", where, given, x, to=scope.node.outputs[0])
    return True


@spelling("Binarizer", domain=DOMAIN)
def binarizer(scope: Scope) -> bool:
    """One above the threshold, else zero."""
    limit = scope.constant(float(scope.node.attributes.get("threshold", 0.0)))
    above = scope.write("Greater", scope.node.inputs[0], limit)
    one, none = scope.constant(1.0), scope.constant(0.0)
    scope.write("Where", above, one, none, to=scope.node.outputs[0])
    return True


@spelling("FeatureVectorizer", domain=DOMAIN)
def feature_vectorizer(scope: Scope) -> bool:
    """Columns side by side, so many of each input."""
    parts, first = [], scope.constant(np.array([0]))
    last = scope.constant(np.array([1]))
    given = scope.node.attributes.get("inputdimensions", ())
    for x, many in zip(scope.node.inputs, given, strict=True):
        shape = scope.shape(x)
        if shape is None:
            return False
        x = _floats(scope, x)
        x = scope.write("Reshape", x, scope.constant(np.array([shape[0], -1])))
        end = scope.constant(np.array([many]))
        parts.append(scope.write("Slice", x, first, end, last))
    scope.write("Concat", *parts, to=scope.node.outputs[0], axis=1)
    return True


@spelling("ArrayFeatureExtractor", domain=DOMAIN)
def array_feature_extractor(scope: Scope) -> bool:
    """The columns of the given numbers."""
    x, index = scope.node.inputs
    shape = scope.shape(x)
    if shape is None:
        return False
    flat = scope.write("Reshape", index, scope.constant(np.array([-1])))
    if len(shape) == 1:
        x = scope.write("Reshape", x, scope.constant(np.array([1, -1])))
    scope.write("Gather", x, flat, to=scope.node.outputs[0], axis=-1)
    return True


# ----- Linear models -----


@spelling("LinearRegressor", domain=DOMAIN)
def linear_regressor(scope: Scope) -> bool:
    """A matrix product, and what is done to it; to one target alone ONNX Runtime does nothing."""
    said, (y,) = scope.node.attributes, scope.node.outputs
    many = said.get("targets", 1)
    if many == 1 and said.get("post_transform", "NONE") in _TRANSFORMS:
        _linear(scope, 1, to=y)
        return True
    return _transformed(scope, _linear(scope, many, to=""), y)


@spelling("LinearClassifier", domain=DOMAIN)
def linear_classifier(scope: Scope) -> bool:
    """A score per class, made probabilities; the label is that of the largest."""
    said, (label, *rest) = scope.node.attributes, scope.node.outputs
    names = said.get("classlabels_ints") or said.get("classlabels_strings") or []
    probability = rest[0] if rest and rest[0] else scope.fresh("probabilities")
    kind = said.get("post_transform", "NONE")
    rows = len(said.get("intercepts") or ()) or len(names)
    squashed = before(probability) if kind in ("SOFTMAX", "LOGISTIC") else ""
    if rows == 1 and len(names) == 2:  # of two classes one score is given
        one = _linear(scope, 1, to="")
        both = scope.write("Concat", scope.write("Neg", one), one, to=squashed, axis=1)
        if kind in ("NONE", "SOFTMAX"):  # which ONNX Runtime takes for none here
            other = scope.write("Sub", scope.constant(1.0), one)
            scope.write("Concat", other, one, to=probability, axis=1)
            return _label(scope, both, names, label)
    else:
        both = _linear(scope, rows, to=squashed)
    return _transformed(scope, both, probability) and _label(scope, both, names, label)


def _linear(scope: Scope, rows: int, to: str) -> str:
    said = scope.node.attributes
    weight = np.float32(said["coefficients"]).reshape(rows, -1)
    x = _floats(scope, scope.node.inputs[0])
    given = [x, scope.constant(weight.T.copy())]
    if said.get("intercepts"):
        given.append(scope.constant(np.float32(said["intercepts"])))
    return scope.write("Gemm", *given, to=to)


def _transformed(scope: Scope, scores: str, to: str) -> bool:
    kind = scope.node.attributes.get("post_transform", "NONE")
    if kind not in _TRANSFORMS:
        return scope.refuse(f"with post_transform `{kind}`")
    scope.write(_TRANSFORMS[kind], scores, to=to, axis=-1 if kind == "SOFTMAX" else None)
    return True


def _label(scope: Scope, scores: str, names: list[int] | list[str], to: str) -> bool:
    best = scope.write("ArgMax", scores, axis=1, keepdims=0)
    kind = np.int64 if names and isinstance(names[0], int) else np.object_
    scope.write("Gather", scope.constant(np.array(names, kind), kind), best, to=to)
    return True


def _floats(scope: Scope, x: str) -> str:
    """A tensor as floats: these operators take numbers of any type."""
    return x if scope.is_float(x) else scope.write("CastLike", x, scope.constant(0.0))
