"""Real models and photographs of the data folder, as a user would hand them in."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox

# ----- SqueezeNet: float16, opset 7, weights listed as inputs, Dropout, Softmax -----

PHOTOGRAPHS = {"kitten.jpg": 281, "hummingbird.jpg": 94, "golden_retriever.jpg": 207}


def photograph(path) -> np.ndarray:
    """Return the centre of a photograph as SqueezeNet takes it: 224x224, BGR, 0..255."""
    image = Image.open(path).convert("RGB")
    scale = 224 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - 224) // 2 for side in image.size)
    image = image.crop((left, top, left + 224, top + 224))
    return np.asarray(image, np.float32)[:, :, ::-1].transpose(2, 0, 1)[None]


@pytest.fixture(scope="module")
def squeezenet(data):
    return data("squeezenet_imagenet_fp16.onnx")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_squeezenet_is_shared_out(squeezenet, data, name):
    e = ox.explain(squeezenet, photograph(data(name)))
    assert e.target.tolist() == [PHOTOGRAPHS[name]]
    assert e.output == "pool10_1"  # the logits: the softmax at the end is stepped over
    assert abs(e.residual[0]) < 1e-5
    assert e.difference < 1e-2
    total = e.heatmap().sum(dtype=np.float64)
    assert total == pytest.approx(e.score[0], rel=1e-4)
    odds = np.exp(e.logits.ravel() - e.logits.max())
    assert odds.max() / odds.sum() > 0.5


def test_squeezenet_in_both_engines(squeezenet, data):
    x = photograph(data("kitten.jpg"))
    eager, compiled = (ox.explain(squeezenet, x, engine=e) for e in ("eager", "compiled"))
    same_map(compiled.attributions["data_0"][0], eager.attributions["data_0"][0])
    for tensor, value in eager.constants.items():
        assert compiled.constants[tensor] == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_grad_cam_looks_at_the_bird(squeezenet, data):
    e = ox.explain(squeezenet, photograph(data("hummingbird.jpg")), "grad-cam", target=94)
    assert e.layer == "conv10_2"
    assert e.attributions[e.layer].shape == (1, 1, 13, 13)
    seen = e.heatmap()[0]
    assert seen.shape == (224, 224)
    assert seen.min() >= 0
    peak = np.unravel_index(seen.argmax(), seen.shape)
    assert 45 <= peak[0] <= 95  # the root of the beak and the eye
    assert 65 <= peak[1] <= 125
    bird = seen[30:220, 60:190].sum() / seen.sum()  # 48 % of the picture
    head = seen[35:110, 60:145].sum() / seen.sum()  # 13 % of it
    assert bird > 0.6
    assert head > 0.35


def test_another_class_looks_elsewhere(squeezenet, data):
    """The shares of two classes are not the same map."""
    e = ox.explain(squeezenet, photograph(data("kitten.jpg")), targets=[281, 207])
    first, second = e.heatmap()[:, 0].reshape(2, -1).astype(np.float64)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.9


# ----- The DR network with its authors' weights -----

SCORES = (-327.3, -227.3, -117.8, 11.4, 105.8)


@pytest.fixture(scope="module")
def network(data, tmp_path_factory):
    """The authors' network; its checkpoint needs torch to be read."""
    pytest.importorskip("torch", reason="the authors' checkpoint is a torch file")
    weights = data("dr_authors_QWKval0814.pth.tar")
    return ox.load(ox.dr_network(weights, tmp_path_factory.mktemp("dr") / "dr.onnx"))


@pytest.fixture(scope="module")
def retina(data):
    image = np.asarray(Image.open(data("fundus_640.png")).convert("RGB"), np.float32) / 255
    mean, deviation = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
    return ((image - mean) / deviation).transpose(2, 0, 1)[None]


@pytest.fixture(scope="module")
def explained(network, retina):
    return ox.explain(network, retina, targets="all", engine="compiled")


def test_graph_of_the_network(network):
    kinds = Counter(kind for _, kind in network.graph.nodes(data="kind"))
    wanted = {"conv": 15, "batchnorm": 15, "relu": 15, "pool": 8, "gemm": 1}
    assert {kind: kinds[kind] for kind in wanted} == wanted
    learned, running = 385_877, 2 * 800  # every normalisation holds a mean and a variance too
    table = network.summary()
    assert f"{learned + running:,}" in table
    assert table.endswith(f"{learned:,} without the {running:,} running statistics")


def test_scores(explained):
    """Float32 in torch gave these for this very photograph."""
    assert explained.logits[0] == pytest.approx(SCORES, abs=0.1)
    assert explained.score[:, 0] == pytest.approx(SCORES, abs=0.1)
    assert ox.explain(explained.model, explained.inputs).target.tolist() == [4]


@pytest.mark.parametrize("ties", ["first", "share"])
def test_all_classes_are_shared_out(network, retina, ties):
    """Eight in a hundred windows of the first pool tie, on the flat black rim."""
    e = ox.explain(network, retina, targets="all", ties=ties)
    assert np.abs(e.residual).max() < 1e-5
    shares = sum(v.reshape(5, -1).sum(1, dtype=np.float64) for v in e.attributions.values())
    assert shares + e.constant[:, 0] == pytest.approx(e.score[:, 0], abs=5e-3)


def test_every_block_has_its_constant(explained):
    assert len(explained.blocks) == 16
    assert len(explained.constants) == 31  # 15 convolutions, 15 normalisations, the head
    head = explained.constants["/lc/Gemm_output_0"][:, 0]
    assert head == pytest.approx([-0.04913, 0.49267, 0.05087, -0.31936, 0.18311], abs=1e-5)


def test_the_final_map(explained):
    final = explained.heatmap()
    assert final.shape == (5, 1, 640, 640)
    sums = final.sum((1, 2, 3), dtype=np.float64)
    assert sums == pytest.approx(explained.score[:, 0], rel=1e-4)
    bright = explained.two_sigma()[4, 0]
    assert 0.005 < bright.mean() < 0.1


def test_both_engines(explained, network, retina):
    """Units within rounding of zero differ: whole maps by cosine and quantiles, sums closely."""
    eager = ox.explain(network, retina, target=4, engine="eager")
    assert np.abs(eager.residual).max() < 1e-5
    same_map(explained.attributions["input"][4], eager.attributions["input"])
    for tensor, value in eager.constants.items():
        assert explained.constants[tensor][4] == pytest.approx(value, rel=5e-3, abs=5e-2)


def same_map(ours, theirs):
    """Compare large maps in which a few units may fall on the other side of zero."""
    ours, theirs = ours.ravel().astype(np.float64), theirs.ravel().astype(np.float64)
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    assert cosine > 0.9999
    apart = np.abs(ours - theirs)
    assert np.quantile(apart, 0.99) < 1e-3 * np.abs(theirs).max()
