"""The training scripts of the retina grader, on a handful of small retinas.

`pip install torch`, beside the package, and `pytest tests/oracles/test_training.py`.
"""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training scripts are torch's")

from models.dr import dataset, focus, processor, train  # noqa: E402
from models.dr.batches import Batches  # noqa: E402
from models.dr.network import Network, load  # noqa: E402
from models.dr.reasons import along, run  # noqa: E402

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def retinas(tmp_path_factory):
    """Ten usual eyes and ten lone ones to learn from, and as many that choose weights."""
    folder = tmp_path_factory.mktemp("retinas")
    firsts = (0, dataset.LONE, *dataset.CHOOSING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SHARD", 10)
        for first in firsts:
            dataset.paint_shard(folder, first, 320)
    return folder


def test_batches_keep_together_what_belongs_together(retinas):
    """Masks and cells are cut and turned alike, and most crops show what makes the grade."""
    source = Batches(retinas, np.random.default_rng(0))
    whole = source.draw(10)
    assert whole.grades.tolist() == [0, 1, 2, 3, 4] * 2
    assert whole.images.shape == (10, 3, 320, 320)
    at_cells = torch.nn.functional.max_pool2d(whole.masks.float(), 16)[:, 0]
    named = whole.cells.amax(1)
    assert (named >= at_cells).all()
    assert not named[whole.grades == 0].any()
    crops = source.draw(64, 128)
    at_cells = torch.nn.functional.max_pool2d(crops.masks.float(), 16)[:, 0]
    assert (crops.cells.amax(1) >= at_cells).all()
    assert crops.images.shape == (64, 3, 128, 128)
    assert crops.cells.shape[2:] == (8, 8)
    ill = crops.masks.flatten(1).any(1)[crops.grades > 0]
    assert ill.float().mean() > 0.7


def test_a_kind_is_as_likely_as_another(retinas):
    """However few its lesions are, about one of them a crop is chosen as often."""
    source = Batches(retinas, np.random.default_rng(0), lone=0)
    (shard,) = source.usual
    shown = shard.lesions[4].any((1, 2))
    held = np.zeros(len(shown))
    for _ in range(400):
        row, column = source._place(shard, 4, 2)
        held += shard.lesions[4][:, row : row + 2, column : column + 2].any((1, 2))
    assert (held[shown] > 400 * 0.7 / shown.sum() / 2).all()


def test_along_is_the_gradients_gradient():
    """The derivative of a directional derivative is that of double backpropagation."""
    torch.manual_seed(0)
    network = Network().double().eval()
    x = torch.randn(2, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    way = torch.randn_like(x)
    scores, _, states = run(network, x)
    asked = [network.rf3.conv.weight, network.rf61.bn.weight, network.lc.weight]
    ours = torch.autograd.grad(along(network, way, states)[:, 3].sum(), asked)
    (slope,) = torch.autograd.grad(scores[:, 3].sum(), x, create_graph=True)
    theirs = torch.autograd.grad((slope * way).sum(), asked)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_trains_and_goes_on(retinas, tmp_path, monkeypatch):
    """What is stopped goes on where it was, to all that it was asked for; then nothing is left."""
    monkeypatch.setattr(train, "EPOCH", 1)
    monkeypatch.setattr(train, "SETTLE", 10)
    monkeypatch.setattr(train, "keep_memory", lambda: None)
    out = tmp_path / "dr.npz"

    def lines(passes):
        asked = ["train.py", retinas, out, "--crops", 32, "--retinas", 60, "--threads", 1]
        monkeypatch.setattr(sys, "argv", [str(a) for a in (*asked, "--passes", passes)])
        processor.fastest.cache_clear()  # as in a process of its own
        train.main()
        return out.with_suffix(".csv").read_text().splitlines()

    assert len(lines(2)) == 1 + 2 + 1 + 2  # the header, two batches, the retinas, two passes
    kept = np.load(out.with_suffix(".features.npy"))
    assert kept.shape == (60, 64, 20, 20)
    assert kept.any((1, 2, 3)).all()
    more = lines(3)
    assert len(more) == 7
    told = dict(zip(*(line.split(",") for line in (more[0], more[-1])), strict=True))
    assert (told["crops"], told["retinas"], told["passes"]) == ("32", "60", "3")
    before = {name: value.clone() for name, value in load(out).state_dict().items()}
    assert lines(3) == more
    assert all(torch.equal(value, before[name]) for name, value in load(out).state_dict().items())


def test_what_cannot_be_begun_is_refused(retinas, tmp_path, monkeypatch, capsys):
    for refused, said in ((["--retinas", "7"], "multiple of 5"), ([], "has no retinas")):
        folder = retinas if refused else tmp_path
        monkeypatch.setattr(train, "keep_memory", lambda: None)
        monkeypatch.setattr(sys, "argv", ["train.py", str(folder), str(tmp_path / "a"), *refused])
        with pytest.raises((SystemExit, FileNotFoundError)) as raised:
            train.main()
        assert said in capsys.readouterr().err + str(raised.value)


def test_a_step_lets_less_go_astray(retinas, tmp_path, monkeypatch):
    """On one and the same batch, explanations move into the lesions step by step."""
    torch.manual_seed(0)
    monkeypatch.setattr(processor, "fastest", lambda: torch.float32)
    training = train.Training(tmp_path / "dr.npz")
    training.network.eval()
    batch = Batches(retinas, np.random.default_rng(0)).draw(5)
    parameters = list(training.parameters())
    optimiser = torch.optim.Adam(parameters, 1e-3)
    gone = []
    for _ in range(4):
        loss, off = focus.learn(training, batch, whole=True)
        optimiser.zero_grad()
        torch.autograd.backward(loss, inputs=parameters)
        optimiser.step()
        gone.append(off)
    assert gone[-1] < gone[0] - 0.1
