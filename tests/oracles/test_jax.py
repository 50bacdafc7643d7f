"""Networks of JAX, Flax and Equinox, written by jax2onnx: JAX's own gradients.

`pip install jax flax equinox jax2onnx`, beside the package, and `pytest tests/oracles/test_jax.py`.
"""

import warnings

import numpy as np
import pytest

import onnxexplain as ox

jax = pytest.importorskip("jax", reason="JAX is the oracle here")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it patches says how it would rather be called
    jax2onnx = pytest.importorskip("jax2onnx", reason="jax2onnx is the exporter here")
jnp = jax.numpy

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # what the exporter says


def weights(*shape):
    """Random weights, seeded by their shape."""
    rng = np.random.default_rng(shape)
    return jnp.asarray(rng.standard_normal(shape) / np.sqrt(shape[0]), jnp.float32)


def mlp():
    """Layers of plain functions."""

    def scores(x):
        x = jnp.tanh(x @ weights(12, 16) + weights(16))
        x = jax.nn.softplus(x @ weights(16, 24)) * jax.nn.sigmoid(x @ weights(16, 24))
        x = jax.nn.elu(x - x.mean(-1, keepdims=True))
        return jax.nn.leaky_relu(x) @ weights(24, 5)

    return scores, (12,)


def cnn():
    """Flax: convolutions, a normalisation and a pool, channels last."""
    nnx = pytest.importorskip("flax.nnx", reason="Flax has these layers")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.one = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
            self.deep = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
            self.two = nnx.Conv(8, 12, (3, 3), strides=2, padding="VALID", rngs=rngs)
            self.three, self.head = nnx.Linear(108, 16, rngs=rngs), nnx.Linear(16, 5, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.one(x)))
            x = x + nnx.silu(self.deep(x))
            x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            x = nnx.gelu(self.two(x)).reshape(x.shape[0], -1)
            return self.head(nnx.relu(self.three(x)))

    network = Network(nnx.Rngs(0))
    network.norm.mean.value = 0.2 * weights(8)
    network.norm.var.value = jnp.abs(1 + 0.3 * weights(8))
    return network, (16, 16, 3)


def tokens():
    """Flax: attention, and what stands around it."""
    nnx = pytest.importorskip("flax.nnx", reason="Flax has these layers")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = (nnx.LayerNorm(16, rngs=rngs) for _ in range(2))
            self.attend = nnx.MultiHeadAttention(2, 16, decode=False, rngs=rngs)
            self.wide, self.narrow = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)
            self.head = nnx.Linear(16, 5, rngs=rngs)

        def __call__(self, x):
            x = x + self.attend(self.first(x))
            x = x + self.narrow(nnx.gelu(self.wide(self.second(x))))
            return self.head(x.mean(1))

    return Network(nnx.Rngs(0)), (7, 16)


def equinox():
    """Equinox: layers for one sample, mapped over the batch."""
    eqx = pytest.importorskip("equinox", reason="Equinox has these layers")
    one, two, three = jax.random.split(jax.random.key(0), 3)
    conv = eqx.nn.Conv2d(2, 6, 3, key=one)
    norm, body = eqx.nn.LayerNorm(6 * 6 * 6), eqx.nn.MLP(216, 16, 24, 2, key=two)
    head = eqx.nn.Linear(16, 5, key=three)

    def scores(x):
        return head(jnp.tanh(body(norm(jax.nn.relu(conv(x)).reshape(-1)))))

    return jax.vmap(scores), (2, 8, 8)


def scanned():
    """A recurrence as JAX writes one: a state carried along the steps."""

    def scores(x):
        def step(state, now):
            keep = jax.nn.sigmoid(now @ weights(6, 8) + state @ weights(8, 8))
            state = keep * state + (1 - keep) * jnp.tanh(now @ weights(6, 8) - state)
            return state, state

        start = jnp.zeros((x.shape[0], 8), x.dtype)
        last, every = jax.lax.scan(step, start, x.swapaxes(0, 1))
        return jnp.concatenate([last, every.max(0)], 1) @ weights(16, 5)

    return scores, (9, 6)


@pytest.mark.parametrize("make", [mlp, cnn, tokens, equinox, scanned])
def test_gradients_and_shares(make):
    scores, shape = make()
    proto = jax2onnx.to_onnx(scores, [("B", *shape)])
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    theirs = np.asarray(jax.grad(lambda x: scores(x)[:, 2].sum())(x))
    for engine in ("compiled", "eager"):
        e = ox.explain(proto, x, "gradient", target=2, engine=engine)
        assert np.allclose(e.score, scores(x)[:, 2], rtol=1e-4, atol=1e-5)
        (ours,) = e.attributions.values()
        assert np.allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
        shares = ox.explain(proto, x, target=2, engine=engine)
        assert np.abs(shares.residual).max() < 1e-5
