"""The methods: which rule for which node, what is seeded, what is read off.

A new method is one file here, imported below.
"""

import sys
from types import ModuleType
from typing import Any

from onnxexplain.methods import (
    cam,
    cnn_fixations,
    crm,
    grad_cam,
    gradient,
    guided_backprop,
    guided_grad_cam,
    input_x_gradient,
    score_propagation,
)
from onnxexplain.methods._method import Found, Head, Method, Way, make, method, methods, on_cpu

__all__ = [
    "Found",
    "Head",
    "Method",
    "Way",
    "cam",
    "cnn_fixations",
    "crm",
    "grad_cam",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "input_x_gradient",
    "make",
    "method",
    "methods",
    "on_cpu",
    "score_propagation",
]


class _Callable(ModuleType):
    """Lets ``onnxexplain.methods()`` list the methods although this package bears that name."""

    def __call__(self) -> list[dict[str, Any]]:
        return methods()


sys.modules[__name__].__class__ = _Callable
