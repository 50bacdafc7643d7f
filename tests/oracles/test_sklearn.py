"""Pipelines of scikit-learn, converted by skl2onnx: central differences of what they decide by.

`pip install scikit-learn skl2onnx`, beside the package, and `pytest tests/oracles/test_sklearn.py`.
"""

import numpy as np
import pytest

import onnxexplain as ox

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")

from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler  # noqa: E402

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),  # of training cut short
]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, -2]
THREE = (X[:, 0] > 0).astype(int) + (X[:, 3] > 0)
TWO = (X[:, 0] + X[:, 1] / 10 > 0.5).astype(int)
REAL = X[:, 0] * 2 - X[:, 2] ** 2 + X[:, 3]


def converted(model, **said):
    options = {id(model): said} if said else None
    return skl2onnx.to_onnx(model, X[:1].astype(np.float32), options=options)


def by_difference(decide, x, step=1e-5):
    """The derivative of each score of each row, by feature: [N,F,K]."""
    columns = []
    for feature in range(x.shape[1]):
        move = np.zeros(x.shape[1])
        move[feature] = step
        columns.append((decide(x + move) - decide(x - move)) / (2 * step))
    return np.stack([c.reshape(len(x), -1) for c in columns], 1)


def logits(model):
    """What a network decides by, before its softmax: up to a number per row."""

    def decide(x):
        return np.log(model.predict_proba(x))

    return decide


def agrees(proto, decide, classes, centred=False):
    """The gradient of each class's score is the difference of what the model decides by."""
    x = X[:5].astype(np.float32)
    numeric = by_difference(decide, x.astype(np.float64))
    for engine in ("eager", "compiled"):
        gradient = ox.explain(proto, x, "gradient", targets="all", engine=engine)
        ours = np.stack(list(gradient.attributions["X"]), -1)
        assert ours.shape == (*x.shape, classes)
        if centred:  # a softmax does not see what all scores have in common
            ours = ours - ours.mean(-1, keepdims=True)
            numeric = numeric - numeric.mean(-1, keepdims=True)
        assert np.allclose(ours, numeric, atol=2e-4 * np.abs(numeric).max())
        e = ox.explain(proto, x, targets="all", engine=engine)
        assert np.abs(e.residual).max() < 1e-5


@pytest.mark.parametrize("zipmap", [True, False])
def test_logistic_regression(zipmap):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, THREE)
    agrees(converted(model, zipmap=zipmap), model.decision_function, 3)


def test_logistic_regression_of_two_classes():
    model = make_pipeline(MinMaxScaler(), LogisticRegression()).fit(X, TWO)

    def decide(x):
        one = model.decision_function(x)
        return np.stack([-one, one], 1)

    agrees(converted(model), decide, 2)


def test_rows_of_length_one():
    model = make_pipeline(Normalizer(), LogisticRegression()).fit(X, THREE)
    agrees(converted(model), model.decision_function, 3)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
def test_perceptron(activation):
    network = MLPClassifier((8, 6), activation=activation, max_iter=30, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(X, THREE)
    agrees(converted(model), logits(model), 3, centred=True)


@pytest.mark.parametrize("made", [LinearRegression, Ridge])
def test_linear_regression(made):
    model = make_pipeline(StandardScaler(), made()).fit(X, REAL)
    agrees(converted(model), model.predict, 1)


def test_perceptron_that_regresses():
    network = MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(X, REAL)
    agrees(converted(model), model.predict, 1)


def test_scores_and_labels_are_sklearns():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, THREE)
    x = X[:6].astype(np.float32)
    e = ox.explain(converted(model), x)
    assert np.allclose(e.logits, model.decision_function(x), atol=1e-4)
    assert e.target.tolist() == model.predict(x).tolist()
    assert np.allclose(e.score, model.decision_function(x).max(1), atol=1e-4)


def test_forests_are_named():
    model = RandomForestClassifier(3, random_state=0).fit(X, THREE)
    with pytest.raises(ox.UnsupportedOperator, match=r"TreeEnsembleClassifier.*all around"):
        ox.explain(converted(model), X[:1].astype(np.float32))
