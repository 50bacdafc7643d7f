"""A worked example in small integers, every number by hand, in both engines."""

import numpy as np
import pytest

import onnxexplain as ox
from tests.builders import net

X = np.array([[1, 2, 0, 1], [0, 1, 3, 2], [2, 0, 1, 1], [1, 1, 0, 2]], np.float32)[None, None]
W1 = [[[[0, 1, 0], [1, 2, -1], [0, -1, 0]]], [[[1, 0, -1], [0, 1, 0], [0, 0, 1]]]]
W2 = [[[[1, 0], [0, 1]], [[1, -1], [1, 0]]]]

MODEL = net(
    """(float[N,1,4,4] x) => (float[N,2] logits) {
        conv1 = Conv<pads=[1,1,1,1]>(x, W1, b1)
        bn1 = BatchNormalization<epsilon=0.0>(conv1, gamma, beta, mu, var)
        relu1 = Relu(bn1)
        pool1 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(relu1)
        conv2 = Conv(pool1, W2, b2)
        relu2 = Relu(conv2)
        mean = GlobalAveragePool(relu2)
        features = Flatten(mean)
        logits = Gemm(features, V, c) }""",
    W1=np.array(W1, np.float32),
    b1=[1.0, -1.0],
    gamma=[2.0, -1.0],
    beta=[-1.0, 4.0],
    mu=[1.0, 0.0],
    var=[4.0, 1.0],
    W2=np.array(W2, np.float32),
    b2=[-2.0],
    V=[[1.5, -1.0]],
    c=[0.5, 0.25],
)


@pytest.fixture(params=["eager", "compiled"])
def explanation(request):
    return ox.explain(MODEL, X, engine=request.param, targets="all", layers="all")


def test_logits(explanation):
    assert explanation.logits.tolist() == [[24.5, -15.75]]
    assert explanation.score.tolist() == [[24.5], [-15.75]]
    assert explanation.layers["relu2"].activation.tolist() == [[[[16.0]]]]


def test_input_scores(explanation):
    first, second = explanation.attributions["x"][:, 0, 0]
    assert first.tolist() == [[1.5, 9, 0, 1.5], [0, -1.5, 4.5, 0], [0, 0, 0, 1.5], [0, 0, 0, 6]]
    assert first.sum() == 22.5
    assert second.sum() == -15
    assert np.allclose(second, first * (-1 / 1.5))


def test_scores_at_the_pool(explanation):
    assert explanation.layers["pool1"].score[0, 0].tolist() == [
        [[4.5, 0], [0, 6]],
        [[10.5, -6], [12, 0]],
    ]


def test_block_constants(explanation):
    first = explanation.layers["relu1"].constant[0, 0]
    assert first[0].tolist() == [[0, -1.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1.5]]
    assert first[1].tolist() == [[0, 0, 0, -7.5], [7.5, 0, 0, 0], [0, 7.5, 0, 0], [0, 0, 0, 0]]
    assert explanation.layers["relu2"].constant[:, 0].tolist() == [[[[-3.0]]], [[[2.0]]]]
    assert explanation.layers["relu1"].constant[1].sum() == pytest.approx(-3)
    assert explanation.layers["logits"].constant[:, 0].tolist() == [[0.5, 0.0], [0.0, 0.25]]


def test_constants_by_tensor(explanation):
    total = {name: value[:, 0].tolist() for name, value in explanation.constants.items()}
    assert set(total) == {"conv1", "bn1", "conv2", "logits"}
    assert total["conv2"] == [-3, 2]
    assert total["logits"] == [0.5, 0.25]
    assert np.add(total["conv1"], total["bn1"]).tolist() == [4.5, -3]


def test_conserves(explanation):
    assert explanation.constant[:, 0].tolist() == [4.5 - 3 + 0.5, -3 + 2 + 0.25]
    assert not explanation.residual.any()


def test_the_final_map_adds_up(explanation):
    final = explanation.heatmap()
    assert final.shape == (2, 1, 4, 4)
    assert final.sum((1, 2, 3)) == pytest.approx([24.5, -15.75], rel=1e-6)
    shares = explanation.heatmap(constants=False)
    assert np.array_equal(shares, explanation.attributions["x"][:, :, 0])
