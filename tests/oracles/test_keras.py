"""Keras networks, written by tf2onnx and by Keras itself: TensorFlow's own gradients.

`pip install tensorflow tf2onnx`, beside the package, and `pytest tests/oracles/test_keras.py`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

import onnxexplain as ox

tf = pytest.importorskip("tensorflow", reason="TensorFlow is the oracle here")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # what the exporters do
keras = tf.keras
layers = keras.layers


def gelu(x):
    """By the hyperbolic tangent: tf2onnx has no word for the error function's complement."""
    return keras.activations.gelu(x, approximate=True)


def sequential():
    return keras.Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.Conv2D(8, 3, padding="same", strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Activation("swish"),
            layers.MaxPooling2D(2),
            layers.Conv2D(12, 3, padding="valid", dilation_rate=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(16, activation=gelu),
            layers.Dropout(0.5),
            layers.Dense(5),
        ]
    )


def residual():
    given = layers.Input((16, 16, 4))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(given)
    y = layers.SeparableConv2D(8, 3, padding="same")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Add()([x, layers.Multiply()([y, gate])])
    x = layers.Concatenate()([x, layers.LeakyReLU()(y)])
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="elu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.AveragePooling2D(3, padding="same")(x)
    x = layers.LayerNormalization()(x)
    x = layers.Flatten()(x)
    return keras.Model(given, layers.Dense(5, activation="softmax")(x))


def recurrent():
    return keras.Sequential(
        [
            layers.Input((12, 6)),
            layers.LSTM(8, return_sequences=True),
            layers.Bidirectional(layers.GRU(5)),
            layers.Dense(5),
        ]
    )


def tokens():
    given = layers.Input((10, 16))
    x = layers.MultiHeadAttention(2, 8)(given, given)
    x = layers.LayerNormalization()(layers.Add()([given, x]))
    x = layers.Dense(24, activation=gelu)(x)
    return keras.Model(given, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


NETWORKS = {
    "sequential": sequential,
    "residual": residual,
    "recurrent": recurrent,
    "tokens": tokens,
}


def settled(network):
    """Move statistics and biases off their starting values."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(np.asarray(weight) + rng.normal(0, 0.1, weight.shape))
    return network


def by_tf2onnx(network, folder):
    tf2onnx = pytest.importorskip("tf2onnx", reason="tf2onnx is the exporter here")
    shape = [None, *network.input_shape[1:]]
    run = tf.function(lambda x: network(x, training=False))
    signature = [tf.TensorSpec(shape, tf.float32, name="x")]
    proto, _ = tf2onnx.convert.from_function(run, input_signature=signature, opset=18)
    return proto.SerializeToString()


def by_keras(network, folder):
    path = folder / "keras.onnx"
    network.export(path, format="onnx", verbose=False)
    return path


@pytest.mark.parametrize("export", [by_tf2onnx, by_keras])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_shares(name, export, tmp_path):
    keras.utils.set_random_seed(0)
    network = settled(NETWORKS[name]())
    x = np.random.default_rng(1).standard_normal((2, *network.input_shape[1:])).astype(np.float32)
    network(x)  # Keras exports what has been called
    model = ox.load(export(network, tmp_path))
    # A softmax at the very end is stepped over: its logits are what is compared.
    last = network.layers[-1]
    if getattr(last, "activation", None) is keras.activations.softmax:
        last.activation = keras.activations.linear
    with tf.GradientTape() as tape:
        given = tf.constant(x)
        tape.watch(given)
        score = network(given, training=False)[:, 2]
    theirs = tape.gradient(score, given).numpy()
    for engine in ("compiled", "eager"):
        e = ox.explain(model, x, "gradient", target=2, engine=engine)
        assert np.allclose(e.score, score, rtol=1e-4, atol=1e-5)
        (ours,) = e.attributions.values()
        assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
        shares = ox.explain(model, x, target=2, engine=engine)
        assert np.abs(shares.residual).max() < 1e-5
