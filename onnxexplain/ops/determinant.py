"""The determinant."""

from onnxexplain.ops._operator import operator


def _offset(xp, y, x, *, varies):
    """A product of as many elements as the matrix has rows counts that often."""
    return (1.0 - x.shape[-1]) * y


@operator("Det", role="product", offset=_offset)
def det(xp, g, y, x):
    """Its derivative is the cofactor matrix, which the Faddeev-LeVerrier algorithm gives without a
    division: a singular matrix has one too."""
    n = x.shape[-1]
    eye = xp.constant([[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)], x)
    found = xp.broadcast_to(eye, x.shape)
    for k in range(1, n):
        product = xp.matmul(x, found)
        trace = xp.sum(product * eye, axis=(-2, -1), keepdims=True)
        found = product - trace * (1 / k) * eye
    sign = 1.0 if n % 2 else -1.0
    cofactors = xp.permute_dims(found, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
    return (xp.reshape(g, (*x.shape[:-2], 1, 1)) * (sign * cofactors),)
