"""Recurrences, loops and branches by torch's automatic differentiation, from both its exporters.

`pip install torch onnxscript`, beside the package, and
`pytest -m slow tests/oracles/test_torch_recurrent.py`.
"""

import io
import warnings

import numpy as np
import pytest

import onnxexplain as ox

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn

pytestmark = pytest.mark.oracle


def close(ours, theirs, rel=1e-5):
    theirs = np.asarray(theirs)
    assert np.allclose(ours, theirs, atol=rel * max(np.abs(theirs).max(), 1e-6))


class Recurrent(nn.Module):
    """Two layers in both directions; the last step, and the mean of all."""

    def __init__(self, kind, **said):
        super().__init__()
        self.rnn = getattr(nn, kind)(6, 5, 2, bidirectional=True, batch_first=True, **said)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.head(y[:, -1] + y.mean(1))


class States(nn.Module):
    """The state after the last step, from states that are inputs; steps first, as torch has it."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 5)
        self.head = nn.Linear(10, 4)

    def forward(self, x, h, c):
        _, (h, c) = self.rnn(x, (h, c))
        return self.head(torch.cat([h[0], c[0]], 1))


class Scripted(nn.Module):
    """A cell in a loop, its states in a list; a branch and a while that hang on the data."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(6, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        h = torch.zeros(x.size(0), 5)
        c = torch.zeros(x.size(0), 5)
        steps = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            steps.append(h)
        y = torch.stack(steps, 1)
        if bool(y.sum() > 0):  # noqa: SIM108 - an If is what is exported
            z = torch.tanh(y.mean(1))
        else:
            z = torch.sigmoid(y.mean(1)) * 2.0
        n = 0
        while bool(z.abs().sum() < 4.0) and n < 6:
            z = z * 1.5
            n += 1
        return self.head(z)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        h = self.first(x)
        if torch.compiler.is_exporting():
            h = torch.cond(h.sum() > 0, torch.tanh, _gated, (h,))
        else:
            h = torch.tanh(h) if h.sum() > 0 else _gated(h)
        return self.head(h)


def _gated(h):
    return torch.sigmoid(h) * h


class Scan(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        from torch._higher_order_ops.scan import scan

        def step(h, z):
            h = torch.tanh(self.a(z) + self.b(h))
            return h, h * 1.0

        h, rows = scan(step, x.new_zeros(x.shape[0], 5), x.transpose(0, 1), dim=0)
        return self.head(h + rows.mean(0))


def exported(network, inputs, exporter, free=()):
    """Return a network as one of torch's exporters writes it; ``free`` axes of the first input."""
    names = ["x", "h", "c"][: len(inputs)]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporters say of themselves
        if exporter == "script":
            axes = {"x": {a: f"axis_{a}" for a in free}}
            torch.onnx.export(
                network, inputs, buffer, dynamo=False, input_names=names, dynamic_axes=axes
            )
            return buffer.getvalue()
        program = torch.onnx.export(network, inputs, dynamo=True, input_names=names, verbose=False)
        program.save(buffer)
    return buffer.getvalue()


def as_torch(network, content, inputs, target=2):
    """Both engines have torch's scores, its derivatives, and shares that add up."""
    varied = [x.clone().requires_grad_(True) for x in inputs]
    logits = network(*varied)
    gradients = torch.autograd.grad(logits[:, target].sum(), varied)
    feeds = {n: x.numpy() for n, x in zip(["x", "h", "c"], inputs, strict=False)}
    for engine in ("eager", "compiled"):
        e = ox.explain(content, feeds, "gradient", target=target, engine=engine)
        close(e.logits, logits.detach())
        for name, g in zip(feeds, gradients, strict=True):
            close(e.attributions[name], g)
        shares = ox.explain(content, feeds, target=target, engine=engine)
        assert np.abs(shares.residual).max() < 1e-6


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ----- Recurrent layers -----


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_two_layers_in_both_directions(kind):
    """Traced with free batch and steps, explained for other numbers of both."""
    network = Recurrent(kind).eval()
    content = exported(network, (noise(2, 5, 6),), "script", free=(0, 1))
    as_torch(network, content, (noise(3, 7, 6, seed=1),))
    as_torch(network, content, (noise(1, 2, 6, seed=2),))


def test_without_bias():
    network = Recurrent("LSTM", bias=False).eval()
    content = exported(network, (noise(1, 5, 6),), "script")
    as_torch(network, content, (noise(1, 5, 6, seed=1),))


def test_relu_recurrence():
    network = Recurrent("RNN", nonlinearity="relu").eval()
    content = exported(network, (noise(1, 5, 6),), "script")
    as_torch(network, content, (noise(1, 5, 6, seed=1),))


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_states_that_are_inputs(exporter):
    """Steps first, one sample; what the states before the first step did is told as well."""
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    network = States().eval()
    inputs = (noise(7, 1, 6), noise(1, 1, 5, seed=1), noise(1, 1, 5, seed=2))
    as_torch(network, exported(network, inputs, exporter), inputs)


def test_the_newer_exporter():
    pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    network = Recurrent("GRU").eval()
    content = exported(network, (noise(2, 5, 6),), "dynamo")
    as_torch(network, content, (noise(2, 5, 6, seed=1),))


# ----- Control flow -----


def test_a_scripted_loop():
    network = Scripted().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and yet in many files
        script = torch.jit.script(network)
    content = exported(script, (noise(1, 7, 6),), "script", free=(0,))
    for seed in range(3):
        as_torch(network, content, (noise(1, 7, 6, seed=seed),))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch, inside its tracing
@pytest.mark.parametrize(("make", "shape"), [(Branch, (1, 6)), (Scan, (2, 7, 6))])
def test_control_flow_of_the_newer_exporter(make, shape):
    pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    network = make().eval()
    content = exported(network, (noise(*shape),), "dynamo")
    for seed in range(1, 4):
        as_torch(network, content, (noise(*shape, seed=seed),))
