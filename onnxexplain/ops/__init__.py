"""One small function per operator: its way back. Importing this package registers them all."""

from onnxexplain.ops import (
    activation,
    convolution,
    elementwise,
    indexing,
    linear,
    logic,
    normalisation,
    pooling,
    reduction,
    shape,
)
from onnxexplain.ops._operator import Back, Offset, Operator, find, operator, operators, role_of

__all__ = [
    "Back",
    "Offset",
    "Operator",
    "activation",
    "convolution",
    "elementwise",
    "find",
    "indexing",
    "linear",
    "logic",
    "normalisation",
    "operator",
    "operators",
    "pooling",
    "reduction",
    "role_of",
    "shape",
]
