"""Activations, softmax among them."""

from onnxexplain.ops._operator import elementwise, operator

# ----- Positively homogeneous: they keep every share and add nothing -----


@operator("Relu", role="activation")
def relu(xp, g, y, x):
    # `y > 0` rather than `x > 0`: a unit is on where its output says so.
    return (xp.where(y > 0, g, 0.0),)


@operator("LeakyRelu", role="activation")
def leaky_relu(xp, g, y, x, *, alpha=0.01):
    return (xp.where(x > 0, g, alpha * g),)


# ----- Smooth, or flat somewhere: what the tangent misses is their constant -----


def _clip(xp, g, y, x, low=None, high=None):
    if low is not None:
        g = xp.where(x > low, g, 0.0)
    if high is not None:
        g = xp.where(x < high, g, 0.0)
    return (g, None, None)


def _sigmoid(xp, g, y, x):
    return (g * (y * (1.0 - y)),)


def _tanh(xp, g, y, x):
    return (g * (1.0 - y * y),)


operator("Clip", role="activation", offset=elementwise(_clip), fixed=(1, 2))(_clip)
operator("Sigmoid", role="activation", offset=elementwise(_sigmoid))(_sigmoid)
operator("Tanh", role="activation", offset=elementwise(_tanh))(_tanh)


# ----- Softmax -----


def _softmax_offset(xp, y, x, *, varies, axis=-1):
    return y - y * (x - xp.sum(y * x, axis=axis, keepdims=True))


@operator("Softmax", role="softmax", offset=_softmax_offset)
def softmax(xp, g, y, x, *, axis=-1):
    return (y * (g - xp.sum(g * y, axis=axis, keepdims=True)),)


def _log_softmax_offset(xp, y, x, *, varies, axis=-1):
    return y - (x - xp.sum(xp.exp(y) * x, axis=axis, keepdims=True))


@operator("LogSoftmax", role="softmax", offset=_log_softmax_offset)
def log_softmax(xp, g, y, x, *, axis=-1):
    return (g - xp.exp(y) * xp.sum(g, axis=axis, keepdims=True),)
