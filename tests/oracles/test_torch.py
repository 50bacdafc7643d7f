"""The same numbers by torch's automatic differentiation."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

import onnxexplain as ox
from onnxexplain.dr import LAYERS

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn

pytestmark = pytest.mark.oracle


def close(ours, theirs, rel=1e-4):
    theirs = np.asarray(theirs)
    assert np.allclose(ours, theirs, atol=rel * max(np.abs(theirs).max(), 1e-6))


# ----- Small networks of every style -----


class Residual(nn.Module):
    """A block with a skip, and one whose skip is a projection."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.a = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
        )
        self.b = nn.Sequential(
            nn.Conv2d(16, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
        )
        self.down = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        x = self.pool(self.stem(x))
        x = torch.relu(self.a(x) + x)
        x = torch.relu(self.b(x) + self.down(x))
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Each layer reads all before it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 8, 3, padding=1, bias=False))
            for n in (3, 11, 19)
        )
        self.norm = nn.BatchNorm2d(27)
        self.head = nn.Linear(27, 5)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        x = nn.functional.avg_pool2d(torch.relu(self.norm(x)), 2)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 24),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(24, 5),
    )


def signal():
    return nn.Sequential(
        nn.Conv1d(2, 8, 5, stride=2, padding=2),
        nn.BatchNorm1d(8),
        nn.LeakyReLU(0.1),
        nn.AvgPool1d(3, 2, 1),
        nn.Conv1d(8, 8, 3, dilation=2),
        nn.Tanh(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def volume():
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1),
        nn.BatchNorm3d(6),
        nn.ReLU6(),
        nn.MaxPool3d(2),
        nn.Conv3d(6, 6, (1, 3, 3), groups=2),
        nn.Sigmoid(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


class Gate(nn.Module):
    """Squeeze-and-excitation, and a softmax inside."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.gate = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid())
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        h = torch.relu(self.conv(x))
        h = h * self.gate(h.mean((2, 3)))[:, :, None, None]
        return self.head(torch.softmax(h.mean((2, 3)), 1) * 3)


NETWORKS = {
    "residual": (Residual, (3, 16, 16)),
    "dense": (Dense, (3, 12, 12)),
    "plain": (plain, (3, 16, 16)),
    "signal": (signal, (2, 40)),
    "volume": (volume, (1, 6, 8, 8)),
    "gate": (Gate, (3, 12, 12)),
}


def settled(make, shape):
    """Return a network in evaluation mode whose statistics and signs are not the initial ones."""
    torch.manual_seed(0)
    network = make()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(8, *shape))
    return network.eval()


def exported(network, shape, exporter):
    """Return the bytes of the network as one of torch's exporters writes it."""
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporters say of themselves
        x = torch.randn(2, *shape)
        if exporter == "script":
            axes = {"x": {0: "N"}, "y": {0: "N"}}
            torch.onnx.export(
                network,
                (x,),
                buffer,
                dynamo=False,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes=axes,
            )
            return buffer.getvalue()
        program = torch.onnx.export(
            network,
            (x,),
            dynamo=True,
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
        program.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_shares(name, exporter):
    make, shape = NETWORKS[name]
    network = settled(make, shape)
    content = exported(network, shape, exporter)
    torch.manual_seed(1)
    x = torch.randn(3, *shape, requires_grad=True)
    logits = network(x)
    target = np.array([1, 4, 0])
    (g,) = torch.autograd.grad(logits[torch.arange(3), torch.from_numpy(target)].sum(), x)
    for engine in ("eager", "compiled"):
        e = ox.explain(content, x.detach().numpy(), "gradient", target=target, engine=engine)
        close(e.logits, logits.detach())
        close(e.attributions["x"], g)
        e = ox.explain(content, x.detach().numpy(), target=target, engine=engine)
        close(e.attributions["x"], (x * g).detach())
        rest = (
            logits.detach().numpy()[range(3), target] - (x * g).flatten(1).sum(1).detach().numpy()
        )
        assert e.constant == pytest.approx(rest, abs=1e-4 * max(1, np.abs(rest).max()))
        assert np.abs(e.residual).max() < 1e-5


def test_layers_against_captum():
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    network = settled(plain, (3, 16, 16))
    content = exported(network, (3, 16, 16), "script")
    torch.manual_seed(2)
    x = torch.randn(2, 3, 16, 16)
    for index, relu in ((3, True), (6, False), (7, True)):
        method = captum.LayerGradCam(network, network[index])
        theirs = method.attribute(x, target=2, relu_attributions=relu).detach().numpy()
        layer = layer_named(content, index)
        for engine in ("eager", "compiled"):
            e = ox.explain(
                content, x.numpy(), "grad-cam", layer=layer, relu=relu, target=2, engine=engine
            )
            close(e.attributions[layer], theirs)


@pytest.mark.parametrize(
    ("method", "name"), [("guided-backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")]
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_guided_rules_against_captum(method, name):
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    network = settled(plain, (3, 16, 16))
    content = exported(network, (3, 16, 16), "script")
    torch.manual_seed(3)
    x = torch.randn(2, 3, 16, 16)
    given = x.clone().requires_grad_(True)
    theirs = getattr(captum, name)(network).attribute(given, target=2).detach().numpy()
    for engine in ("eager", "compiled"):
        e = ox.explain(content, x.numpy(), method, target=2, engine=engine)
        close(e.attributions["x"], theirs)


def layer_named(content, index):
    """The n-th module of a sequence, by the name the exporter gives its output."""
    return next(
        t for node in ox.load(content).nodes for t in node.outputs if t.startswith(f"/{index}/")
    )


# ----- The DR network with its authors' weights -----


def authors_network(weights):
    """The network in torch, its layers by name, from weights under the published names."""
    layers = []
    for i, name in enumerate(LAYERS):
        out, inner, side, _ = weights[f"{name}.conv.weight"].shape
        conv = nn.Conv2d(inner, out, side, padding=1 if side == 3 else 0)
        norm = nn.BatchNorm2d(out)
        with torch.no_grad():
            for module, part in ((conv, "conv"), (norm, "bn")):
                for field, value in module.named_parameters():
                    value.copy_(torch.from_numpy(weights[f"{name}.{part}.{field}"]))
            norm.running_mean.copy_(torch.from_numpy(weights[f"{name}.bn.running_mean"]))
            norm.running_var.copy_(torch.from_numpy(weights[f"{name}.bn.running_var"]))
        pool = [nn.MaxPool2d(2)] if i % 2 and name != "rf637" else []
        layers.append((conv, norm, nn.Sequential(nn.ReLU(), *pool)))
    head = nn.Linear(64, 5)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights["lc.weight"]))
        head.bias.copy_(torch.from_numpy(weights["lc.bias"]))
    return layers, head


@pytest.fixture(scope="module")
def authors(data, tmp_path_factory):
    """Shares of the input and every layer's constant for class 4, from autograd in float64."""
    from onnxexplain.dr import published_names, read_weights

    path = data("dr_authors_QWKval0814.pth.tar")
    weights = published_names(read_weights(path))
    image = np.asarray(Image.open(data("fundus_640.png")).convert("RGB"), np.float32) / 255
    mean, deviation = np.float32([0.382, 0.265, 0.189]), np.float32([0.290, 0.210, 0.170])
    x = ((image - mean) / deviation).transpose(2, 0, 1)[None]
    layers, head = authors_network(weights)
    at = torch.from_numpy(x).double().requires_grad_()
    h, before = at, []
    for conv, norm, rest in layers:
        z = norm.double().eval()(conv.double()(h))
        before.append(z)
        h = rest(z)
    logits = head.double()(nn.functional.avg_pool2d(h, 4).flatten(1))
    g, *arrived = torch.autograd.grad(logits[0, 4], [at, *before])
    constants = []
    for (conv, norm, _), lam in zip(layers, arrived, strict=True):
        slope = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        effective = norm.bias + slope * (conv.bias - norm.running_mean)
        constants.append((lam * effective[:, None, None]).detach().numpy())
    model = ox.dr_network(weights, tmp_path_factory.mktemp("dr") / "dr.onnx")
    return model, x, logits.detach().numpy(), (at * g).detach().numpy(), constants


def test_dr_network(authors):
    """Exactly in float64; in float32, compiled, as far as units within rounding of zero allow."""
    model, x, logits, shares, constants = authors
    blocks = [f"/{name}/Relu_output_0" for name in LAYERS]
    exact = ox.explain(model, x, target=4, engine="eager", dtype="float64", layers=blocks)
    assert np.allclose(exact.logits[0], logits[0], rtol=1e-9)
    assert np.allclose(exact.attributions["input"], shares, atol=1e-9 * np.abs(shares).max())
    assert abs(exact.residual[0]) <= 1e-12
    for block, expected in zip(blocks, constants, strict=True):
        ours = exact.layers[block].constant
        assert np.allclose(ours, expected, atol=1e-9 * np.abs(expected).max()), block

    e = ox.explain(model, x, target=4, layers=blocks[6:])
    assert e.logits[0] == pytest.approx(logits[0], abs=1e-2)
    assert abs(e.residual[0]) < 1e-5
    ours, theirs = e.attributions["input"].ravel().astype(np.float64), shares.ravel()
    assert ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs)) > 0.9999
    assert np.quantile(np.abs(ours - theirs), 0.99) < 1e-3 * np.abs(theirs).max()
    for name, expected in zip(LAYERS, constants, strict=True):
        made = [f"/{name}/{part}_output_0" for part in ("Conv", "BatchNormalization")]
        total = sum(e.constants[tensor] for tensor in made)
        assert total == pytest.approx([expected.sum()], rel=5e-3, abs=5e-2), name
    for block, expected in list(zip(blocks, constants, strict=True))[6:]:
        apart = np.abs(e.layers[block].constant - expected)
        assert np.quantile(apart, 0.999) < 1e-3 * np.abs(expected).max(), block
