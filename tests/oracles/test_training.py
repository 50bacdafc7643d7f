"""The training scripts of the retina grader, on a handful of small retinas.

`pip install torch`, beside the package, and `pytest tests/oracles/test_training.py`.
"""

import argparse
import signal
import sys
from dataclasses import asdict

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch", reason="the training scripts are torch's")

import onnxexplain as ox  # noqa: E402
from models.dr import dataset, focus, processor, train  # noqa: E402
from models.dr.batches import HARD, Batches  # noqa: E402
from models.dr.lesions import KINDS  # noqa: E402
from models.dr.network import Network, load, save  # noqa: E402
from models.dr.reasons import FAIR, Weights, along, astray, mispointing, run, unfair  # noqa: E402
from models.dr.truth import WIDER, wider  # noqa: E402

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
    at_cells = torch.nn.functional.max_pool2d((whole.kinds > 0).float(), 16)
    named = whole.cells.amax(1)
    assert (named >= at_cells).all()
    assert not named[whole.grades == 0].any()
    crops = source.draw(64, 128)
    at_cells = torch.nn.functional.max_pool2d((crops.kinds > 0).float(), 16)
    assert (crops.cells.amax(1) >= at_cells).all()
    assert crops.images.shape == (64, 3, 128, 128)
    assert crops.cells.shape[2:] == (8, 8)
    ill = crops.kinds.flatten(1).any(1)[crops.grades > 0]
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


def test_the_kind_that_is_hard_comes_more_often(tmp_path):
    """It shows in every third eye of grade 4, and in five of nine lone ones that are drawn."""
    lesions = np.zeros((30, len(KINDS), 2, 2), bool)
    lesions[4::15, HARD] = True
    for first in (0, dataset.LONE):
        np.save(tmp_path / f"lesions_{first}.npy", lesions)
        np.save(tmp_path / f"kinds_{first}.npy", np.zeros((30, 32, 32), np.uint8))
        np.save(tmp_path / f"images_{first}.npy", np.zeros((30, 32, 32, 3), np.uint8))
    for lone, share in ((0, 1 / 3), (1, 5 / 9)):
        drawn = Batches(tmp_path, np.random.default_rng(0), lone).draw(2000)
        shown = drawn.cells[:, HARD].flatten(1).any(1)[drawn.grades == 4]
        assert np.isclose(shown.float().mean(), share, atol=0.06)  # some 2.5 deviations


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


def test_widened_masks_are_those_of_the_measure():
    """Every kind grows by itself, by an octagon as wide as the disc of `truth.py`."""
    rng = np.random.default_rng(0)
    masks = rng.random((8, 90, 70)) > 0.998
    bits = np.bitwise_or.reduce([mask.astype(np.uint8) << k for k, mask in enumerate(masks)])
    widened = focus.widened(torch.from_numpy(bits)[None])[0].numpy()
    assert widened.shape == (len(KINDS), 90, 70)
    for mask, ours in zip(masks, widened, strict=True):
        disc = wider(mask)
        assert (ours != disc).mean() < 0.25 * disc.mean()
        away = ndimage.distance_transform_edt(~mask)
        assert away[ours].max() < WIDER + 0.5
        assert ours[away < WIDER - 0.5].all()


def test_a_peak_beside_the_lesions_costs_its_height():
    """The measure is the log of how much higher it is, and nothing where the peak is right."""
    rise = torch.zeros(1, 1, 160, 160)
    mask = torch.zeros(1, 1, 160, 160, dtype=torch.bool)
    mask[..., 30:50, 30:50] = True
    rise[..., 38:42, 38:42] = 1.0
    assert float(mispointing(rise, mask)) < 1e-3
    rise[..., 118:122, 98:102] = 3.0
    assert np.isclose(float(mispointing(rise, mask)), np.log(3), atol=0.02)
    assert np.isclose(float(mispointing(rise, mask, 2.0)), np.log(6), atol=0.02)
    assert float(mispointing(rise, torch.zeros_like(mask))) == 0
    both = mispointing(torch.cat([rise, rise]), torch.cat([mask, torch.zeros_like(mask)]))
    assert np.isclose(float(both), np.log(3) / 2, atol=0.02)


def test_kinds_share_as_their_areas_do():
    """An even map costs nothing, whichever kinds there are; one that passes a kind by does.

    That is, if the kind makes the grade by itself.
    """
    kinds = torch.zeros(1, 3, 40, 40, dtype=torch.bool)
    kinds[:, 0, :10], kinds[:, 1, 20:30] = True, True
    size = torch.ones(1, 1, 40, 40)
    every = torch.ones(1, 3, dtype=torch.bool)
    assert float(unfair(size, kinds, every)) == 0
    size[:, :, 20:30] = 0.25
    for makes in (every, torch.tensor([[False, True, False]])):
        told = float(unfair(size, kinds, makes))
        assert np.isclose(told, np.log(FAIR * 0.5 / 0.2), atol=1e-4)
    assert float(unfair(size, kinds, torch.tensor([[True, False, True]]))) == 0
    assert float(unfair(size, kinds & False, every)) == 0


def test_a_peak_belongs_where_the_grade_is_made():
    """On another kind it costs its height, though what lies there is not astray."""
    kinds = torch.zeros(1, 2, 160, 160, dtype=torch.bool)
    kinds[:, 0, 30:50, 30:50], kinds[:, 1, 110:130, 90:110] = True, True
    attribution = torch.zeros(1, 1, 160, 160)
    attribution[..., 38:42, 38:42], attribution[..., 118:122, 98:102] = 1.0, 3.0

    def gone(*makes):
        weights = Weights(pointing=2.0, margin=1.0, fairness=0.0)
        return float(astray(attribution, kinds, torch.tensor([makes]), weights))

    assert gone(True, True) < 1e-3
    assert gone(False, True) < 1e-3
    assert np.isclose(gone(True, False), 2 * np.log(3), atol=0.04)
    assert gone(False, False) < 1e-3  # nothing to point at


def test_grading_is_made_firm_at_the_end():
    aims = focus.Aims(rate=1e-3, grading=6, firmness=5)
    assert aims.after(0).grading == aims.after(focus.FIRM - 0.01).grading == 6
    assert aims.after(focus.FIRM).grading == aims.after(1).grading == 30
    rates = [aims.after(past).rate for past in np.linspace(0, 1, 9)]
    assert rates[0] == 1e-3
    assert (np.diff(rates) < 0).all()


def test_focuses_and_goes_on(retinas, tmp_path, monkeypatch):
    """What is stopped goes on where it was, and once all steps are done nothing is left."""
    monkeypatch.setattr(focus, "keep_memory", lambda: None)
    monkeypatch.setattr(focus, "LOOK", 1)
    torch.manual_seed(0)
    weights, out = tmp_path / "dr.npz", tmp_path / "focused.npz"
    begun = train.Training(weights)
    begun.keep()
    save(begun.network, weights)

    def state(steps):
        options = argparse.Namespace(folder=retinas, weights=weights, out=out)
        options.steps, options.processes = steps, 1
        vars(options).update(asdict(focus.Aims()))
        focus.work(0, options)
        return torch.load(out.with_suffix(".pt"), weights_only=True)

    first, again, second = state(1), state(1), state(2)
    assert [one["progress"][0] for one in (first, again, second)] == [1, 1, 2]
    name = "rf3.conv.weight"
    assert torch.equal(first["network"][name], again["network"][name])
    assert not torch.equal(first["network"][name], second["network"][name])
    assert not torch.equal(first["network"][name], begun.network.state_dict()[name])
    kept = load(out).state_dict()
    assert set(kept) == set(begun.network.state_dict())
    # After one step there is but one of them; then the mean goes a little of the way.
    assert torch.equal(first["mean"][f"module.{name}"], first["network"][name])
    mean = torch.lerp(first["network"][name], second["network"][name], 1 - focus.KEPT)
    assert torch.allclose(second["mean"][f"module.{name}"], mean, atol=1e-7)
    assert any(torch.equal(kept[name], s["mean"][f"module.{name}"]) for s in (first, second))


def test_new_weights_need_a_name_of_their_own(tmp_path, monkeypatch, capsys):
    """Neither those that they begin with nor their state may be written over."""
    for weights, out in (("dr.npz", "dr.npz"), ("dr.onnx", "dr.npz"), ("dr.npz", "focused.onnx")):
        asked = ["focus.py", str(tmp_path), str(tmp_path / weights), str(tmp_path / out)]
        monkeypatch.setattr(sys, "argv", asked)
        with pytest.raises(SystemExit):
            focus.main()
        assert "a name of their own that ends in .npz" in capsys.readouterr().err


def test_told_to_end_it_leaves_in_order(tmp_path, monkeypatch):
    """That ends the processes that are its daemons."""

    def spawn(*_, daemon):
        assert daemon
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(focus.multiprocessing, "spawn", spawn)
    monkeypatch.setattr(sys, "argv", ["focus.py", "retinas", "dr.npz", str(tmp_path / "new.npz")])
    try:
        with pytest.raises(SystemExit, match="stopped"):
            focus.main()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_weights_alone_get_a_head_that_names(retinas, tmp_path, monkeypatch):
    """The head learns and the layers below it do not; an ONNX file holds the same weights."""
    monkeypatch.setattr(processor, "fastest", lambda: torch.float32)
    torch.manual_seed(0)
    begun, source = Network().eval(), Batches(retinas, np.random.default_rng(0))
    save(begun, tmp_path / "dr.npz")
    ox.dr_network(tmp_path / "dr.npz", tmp_path / "dr.onnx")
    training = train.Training(tmp_path / "dr.onnx", load(tmp_path / "dr.onnx"))
    torch.nn.init.zeros_(training.namer.bias)  # far from what is true
    batch = source.draw(8, 256)
    before = float(training.misnaming(batch).detach())
    train.fit_namer(training, source, 6)
    assert float(training.misnaming(batch).detach()) < 0.98 * before
    for one, other in zip(begun.parameters(), training.network.parameters(), strict=True):
        assert torch.equal(one, other)


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
        loss, off = focus.learn(training, focus.Aims(), batch, whole=True)
        optimiser.zero_grad()
        torch.autograd.backward(loss, inputs=parameters)
        optimiser.step()
        gone.append(off)
    assert gone[-1] < gone[0] - 0.1
