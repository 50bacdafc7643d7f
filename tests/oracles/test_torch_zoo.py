"""Architectures of today, as torch's two exporters write them: torch's own gradients, in float64.

The small ones run with `-m slow`; `ONNXEXPLAIN_ALL_ORACLES=1` runs the large ones, too.
`pip install torch torchvision onnxscript`, beside the package, and
`pytest -m slow tests/oracles/test_torch_zoo.py`.
"""

import copy
import importlib.util
import io
import os
import warnings

import numpy as np
import pytest

import onnxexplain as ox

torch = pytest.importorskip("torch", reason="torch is the oracle here")
nn = torch.nn

pytestmark = pytest.mark.oracle

EVERY = os.environ.get("ONNXEXPLAIN_ALL_ORACLES") == "1"
SAMPLES = 3


# ----- Where the architectures come from -----


@pytest.fixture(scope="session")
def torchvision():
    """The models of torchvision, without its compiled part where that does not fit; or None."""
    if importlib.util.find_spec("torchvision") is None:
        yield None
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # its operators live as long as this
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            models = importlib.import_module("torchvision.models")
        except RuntimeError:  # it says what its operators do, and nothing has named them
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
            models = importlib.import_module("torchvision.models")
    yield models
    del library


@pytest.fixture
def vision(torchvision):
    if torchvision is None:
        pytest.skip("torchvision, which has these architectures, is not installed")
    return torchvision


class UNet(nn.Module):
    """Down by pools, up by a transposed convolution and by interpolation, skips in between."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = self.block(3, 8), self.block(8, 16), self.block(16, 24)
        self.up = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.four, self.five = self.block(32, 12), self.block(20, 8)
        self.head = nn.Conv2d(8, 5, 1)

    @staticmethod
    def block(given, made):
        parts = []
        for n in (given, made):
            parts += [nn.Conv2d(n, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU()]
        return nn.Sequential(*parts)

    def forward(self, x):
        one = self.one(x)
        two = self.two(nn.functional.max_pool2d(one, 2))
        three = self.three(nn.functional.max_pool2d(two, 2))
        x = self.four(torch.cat([self.up(three), two], 1))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(self.five(torch.cat([x, one], 1)))


class Bert(nn.Module):
    """Embedded words and their places, two layers of attention, the first word's answer."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(12, 32)
        self.norm = nn.LayerNorm(32)
        layer = nn.TransformerEncoderLayer(32, 4, 48, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pooler, self.head = nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, words):
        return self.behind(self.words(words))

    def behind(self, embedded):
        x = self.norm(embedded + self.places(torch.arange(embedded.shape[1])))
        return self.head(torch.tanh(self.pooler(self.layers(x)[:, 0])))


def convnext(m, blocks):
    setting = [m.convnext.CNBlockConfig(*block) for block in blocks]
    return m.convnext.ConvNeXt(setting)


def mobilenet(m):
    block = m.mobilenetv3.InvertedResidualConfig
    blocks = [
        block(16, 3, 16, 16, True, "RE", 2, 1, 0.5),
        block(16, 5, 48, 24, True, "HS", 2, 1, 0.5),
        block(24, 5, 48, 24, False, "HS", 1, 1, 0.5),
    ]
    return m.MobileNetV3(blocks, 48, num_classes=10)


def efficientnet(m):
    part = m.efficientnet
    blocks = [
        part.MBConvConfig(1, 3, 1, 16, 8, 1, width_mult=1.0, depth_mult=1.0),
        part.MBConvConfig(4, 3, 2, 8, 12, 2, width_mult=1.0, depth_mult=1.0),
        part.MBConvConfig(4, 5, 2, 12, 16, 1, width_mult=1.0, depth_mult=1.0),
        part.FusedMBConvConfig(2, 3, 1, 16, 16, 1),
    ]
    return part.EfficientNet(blocks, 0.2, last_channel=48, num_classes=10)


def vit(m):
    sizes = {"num_layers": 3, "num_heads": 4, "hidden_dim": 48, "mlp_dim": 96}
    return m.VisionTransformer(image_size=32, patch_size=8, num_classes=10, **sizes)


def swin(m, kind):
    stages = {"depths": [2, 2], "num_heads": [3, 6], "window_size": [4, 4], "num_classes": 10}
    block, merging = {
        "swin": (m.swin_transformer.SwinTransformerBlock, m.swin_transformer.PatchMerging),
        "swin v2": (m.swin_transformer.SwinTransformerBlockV2, m.swin_transformer.PatchMergingV2),
    }[kind]
    return m.SwinTransformer([4, 4], 24, **stages, block=block, downsample_layer=merging)


SMALL = {
    "resnet": (lambda m: m.ResNet(m.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10), 64),
    "densenet": (lambda m: m.DenseNet(8, (2, 3), 16, num_classes=10), 64),
    "mobilenet": (mobilenet, 64),
    "efficientnet": (efficientnet, 64),
    "convnext": (lambda m: convnext(m, [(16, 32, 1), (32, 48, 2), (48, None, 1)]), 64),
    "shufflenet": (lambda m: m.ShuffleNetV2([2, 2, 2], [8, 16, 32, 48, 64], 10), 64),
    "vit": (vit, 32),
    "swin": (lambda m: swin(m, "swin"), 48),
}
LARGE = {
    "swin v2": (lambda m: swin(m, "swin v2"), 48),
    "resnet 18": (lambda m: m.resnet18(), 64),
    "densenet 121": (lambda m: m.densenet121(), 64),
    "mobilenet v3 small": (lambda m: m.mobilenet_v3_small(), 64),
    "shufflenet v2 x0.5": (lambda m: m.shufflenet_v2_x0_5(), 64),
    "resnet 50": (lambda m: m.resnet50(), 64),
    "efficientnet b0": (lambda m: m.efficientnet_b0(), 64),
    "convnext tiny": (lambda m: m.convnext_tiny(), 64),
    "inception v3": (lambda m: m.inception_v3(init_weights=False, transform_input=True), 96),
    "googlenet": (lambda m: m.googlenet(init_weights=False), 64),
    "regnet y": (lambda m: m.regnet_y_400mf(), 64),
    "vit b 32": (lambda m: m.vit_b_32(image_size=64), 64),
    "maxvit": (lambda m: m.MaxVit((64, 64), 16, 2, [16, 32], [1, 1], 8, 0.1, num_classes=10), 64),
}


def settled(network):
    """Move statistics, gates and heads off the values that a new network has."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    for name, parameter in network.named_parameters():
        if name.endswith("layer_scale"):  # a thousandth of a thousandth: no block would count
            nn.init.uniform_(parameter, 0.2, 1)
        elif not parameter.any():  # a head that begins at zero
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def kinked(network):
    """Whether a unit within rounding of zero, or of another in its window, may fall either way."""
    sharp = nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.MaxPool2d
    return any(isinstance(module, sharp) for module in network.modules())


# ----- The comparison -----


def exported(network, x, exporter):
    """Return the bytes of the network as one of torch's exporters writes it."""
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporters say of themselves
        if exporter == "script":
            axes = {"x": {0: "N"}, "y": {0: "N"}}
            names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
            torch.onnx.export(network, (x,), buffer, dynamo=False, **names)
        else:
            free = ({0: torch.export.Dim("N")},)
            program = torch.onnx.export(
                network, (x,), dynamo=True, input_names=["x"], dynamic_shapes=free, verbose=False
            )
            program.save(buffer)
    return buffer.getvalue()


def torchs(network, x, target):
    """Return scores and gradient, in float64: in float32 torch itself errs at a kink."""
    network = copy.deepcopy(network).double()
    x = x.double().requires_grad_()
    scores = network(x).flatten(2).sum(2) if network(x).ndim > 2 else network(x)
    chosen = scores[torch.arange(len(x)), torch.from_numpy(target)]
    (g,) = torch.autograd.grad(chosen.sum(), x)
    return chosen.detach().numpy(), g.numpy()


def apart(ours, theirs):
    """How far each sample's gradient is off, relative to its largest element."""
    axes = tuple(range(1, theirs.ndim))
    return np.abs(ours - theirs).max(axes) / np.abs(theirs).max(axes)


def check(content, network, x, engines):
    target = np.array([3, 1, 4])
    score, g = torchs(network, x, target)
    for engine in engines:
        e = ox.explain(content, x.numpy(), "gradient", target=target, engine=engine)
        assert np.allclose(e.score, score, rtol=1e-4, atol=1e-5)
        far = apart(e.attributions["x"], g) > 1e-5
        assert far.sum() <= kinked(network)  # one of three may sit on a kink
        shares = ox.explain(content, x.numpy(), target=target, engine=engine)
        assert np.abs(shares.residual).max() < 1e-5
        near = apart(shares.attributions["x"], g * x.numpy()) < 1e-4
        assert near.sum() >= SAMPLES - kinked(network)


def made(make, side, vision=None):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some say how they would rather be begun
        network = settled(make(vision))
    return network, torch.randn(SAMPLES, 3, side, side)


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_unet(exporter):
    network, x = made(lambda _: UNet(), 32)
    check(exported(network, x[:2], exporter), network, x, ("compiled", "eager"))


def embedded(content):
    """The name of the tensor that the words' numbers become."""
    return next(n.outputs[0] for n in ox.load(content).nodes if n.inputs[1:] == ("x",))


def check_words(content, words, score, g):
    """Compare where the words have become numbers one can go back to."""
    name = embedded(content)
    for engine in ("compiled", "eager"):
        e = ox.explain(content, words, "gradient", target=3, wrt=name, engine=engine)
        assert np.allclose(e.score, score, rtol=1e-4, atol=1e-5)
        assert apart(e.attributions[name], g).max() < 1e-5
        shares = ox.explain(content, words, target=3, wrt=name, engine=engine)
        assert np.abs(shares.residual).max() < 1e-5


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_bert(exporter):
    torch.manual_seed(0)
    network, words = Bert().eval(), torch.randint(0, 50, (SAMPLES, 12))
    content = exported(network, words[:2], exporter)
    network.double()
    x = network.words(words).detach().requires_grad_()
    score = network.behind(x)[:, 3]
    (g,) = torch.autograd.grad(score.sum(), x)
    check_words(content, words.numpy(), score.detach().numpy(), g.numpy())


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_bert_of_transformers(exporter, torchvision):
    """It imports torchvision where there is one."""
    hugging = pytest.importorskip("transformers", reason="transformers has this network")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    settings = hugging.BertConfig(vocab_size=50, num_hidden_layers=2, num_labels=5, **sizes)
    network = hugging.BertForSequenceClassification(settings).eval()
    nn.init.normal_(network.classifier.weight, std=0.5)
    words = torch.randint(0, 50, (SAMPLES, 12))

    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x).logits

    content = exported(Scores().eval(), words[:2], exporter)
    network.double()
    x = network.bert.embeddings.word_embeddings(words).detach().requires_grad_()
    score = network(inputs_embeds=x).logits[:, 3]
    (g,) = torch.autograd.grad(score.sum(), x)
    check_words(content, words.numpy(), score.detach().numpy(), g.numpy())


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", SMALL)
def test_small(name, exporter, vision):
    network, x = made(*SMALL[name], vision)
    check(exported(network, x[:2], exporter), network, x, ("compiled", "eager"))


@pytest.mark.skipif(not EVERY, reason="large: ONNXEXPLAIN_ALL_ORACLES=1 runs it")
@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", LARGE)
def test_large(name, exporter, vision):
    network, x = made(*LARGE[name], vision)
    check(exported(network, x[:2], exporter), network, x, ("compiled",))
