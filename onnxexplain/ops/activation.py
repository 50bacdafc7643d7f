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


@operator("ThresholdedRelu", role="activation")
def thresholded_relu(xp, g, y, x, *, alpha=1.0):
    return (xp.where(x > alpha, g, 0.0),)


def _prelu_offset(xp, y, x, slope, *, varies):
    return xp.where(x > 0, 0.0, -y) if all(varies) else None


@operator("PRelu", role="activation", offset=_prelu_offset)
def prelu(xp, g, y, x, slope):
    to_slope = xp.where(x > 0, 0.0, g * x)
    return (xp.where(x > 0, g, slope * g), xp.sum_like(to_slope, slope))


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


# ----- The newer ones -----


def _elu(xp, g, y, x, *, alpha=1.0):
    return (xp.where(x > 0, g, g * (y + alpha)),)


def _celu(xp, g, y, x, *, alpha=1.0):
    return (xp.where(x > 0, g, g * xp.exp(xp.minimum(x, 0.0) / alpha)),)


def _selu(xp, g, y, x, *, alpha=1.6732631921768188, gamma=1.0507010221481323):
    return (xp.where(x > 0, gamma * g, g * (y + gamma * alpha)),)


def _softplus(xp, g, y, x):
    return (g * (1.0 - xp.exp(-y)),)


def _softsign(xp, g, y, x):
    slope = 1.0 - xp.abs(y)
    return (g * (slope * slope),)


def _hard_sigmoid(xp, g, y, x, *, alpha=0.2, beta=0.5):
    return (xp.where(y > 0, xp.where(y < 1, alpha * g, 0.0), 0.0),)


def _hard_swish(xp, g, y, x):
    middle = xp.where(x < 3, g * (x / 3.0 + 0.5), g)
    return (xp.where(x > -3, middle, 0.0),)


def _swish(xp, g, y, x, *, alpha=1.0):
    gate = 0.5 * (xp.tanh(0.5 * alpha * x) + 1.0)
    return (g * (gate + alpha * y * (1.0 - gate)),)


def _mish(xp, g, y, x):
    soft = xp.maximum(x, 0.0) + xp.log(1.0 + xp.exp(-xp.abs(x)))
    t = xp.tanh(soft)
    return (g * (t + x * (1.0 - t * t) * (1.0 - xp.exp(-soft))),)


def _gelu(xp, g, y, x, *, approximate="none"):
    if approximate == "tanh":
        t = xp.tanh(_TANH * (x + 0.044715 * x * x * x))
        slope = 0.5 * (1.0 + t)
        return (g * (slope + 0.5 * x * (1.0 - t * t) * _TANH * (1.0 + 0.134145 * x * x)),)
    away = xp.abs(x) > 0
    below = xp.where(away, y / xp.where(away, x, 1.0), 0.5)  # y = x * P(normal < x)
    return (g * (below + x * xp.exp(-0.5 * x * x) * _NORMAL),)


def _erf(xp, g, y, x):
    return (g * (2.0 * _NORMAL * 2.0**0.5) * xp.exp(-x * x),)


def _shrink(xp, g, y, x, *, lambd=0.5, bias=0.0):
    return (xp.where(xp.abs(x) > lambd, g, 0.0),)


_TANH = 0.7978845608028654
"""sqrt(2 / pi), of the approximation of Gelu by tanh."""
_NORMAL = 0.3989422804014327
"""1 / sqrt(2 pi), the height of the normal density."""

operator("Elu", role="activation", offset=elementwise(_elu))(_elu)
operator("Celu", role="activation", offset=elementwise(_celu))(_celu)
operator("Selu", role="activation", offset=elementwise(_selu))(_selu)
operator("Softplus", role="activation", offset=elementwise(_softplus))(_softplus)
operator("Softsign", role="activation", offset=elementwise(_softsign))(_softsign)
operator("HardSigmoid", role="activation", offset=elementwise(_hard_sigmoid))(_hard_sigmoid)
operator("HardSwish", role="activation", offset=elementwise(_hard_swish))(_hard_swish)
operator("Swish", role="activation", offset=elementwise(_swish))(_swish)
operator("Mish", role="activation", offset=elementwise(_mish))(_mish)
operator("Gelu", role="activation", offset=elementwise(_gelu))(_gelu)
operator("Erf", role="activation", offset=elementwise(_erf))(_erf)
operator("Shrink", role="activation", offset=elementwise(_shrink))(_shrink)


# ----- Softmax -----


def _softmax_offset(xp, y, x, *, varies, axis=-1):
    weighted = xp.scale(y, x)  # a masked logit is -inf, and its y is 0
    return y - weighted + y * xp.sum(weighted, axis=axis, keepdims=True)


@operator("Softmax", role="softmax", offset=_softmax_offset)
def softmax(xp, g, y, x, *, axis=-1):
    # Of a row in which everything is masked y is NaN; where nothing arrives, nothing goes back.
    mean = xp.sum(xp.scale(g, y), axis=axis, keepdims=True)
    return (xp.scale(g - mean, y),)


def _log_softmax_offset(xp, y, x, *, varies, axis=-1):
    return y - x + xp.sum(xp.scale(xp.exp(y), x), axis=axis, keepdims=True)


@operator("LogSoftmax", role="softmax", offset=_log_softmax_offset)
def log_softmax(xp, g, y, x, *, axis=-1):
    return (g - xp.scale(xp.sum(g, axis=axis, keepdims=True), xp.exp(y)),)
