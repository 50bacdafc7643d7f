"""Explains any ONNX model with nothing but the model file."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from onnxexplain.dr import dr_network
    from onnxexplain.errors import (
        DeviceError,
        InputError,
        MethodError,
        ModelError,
        OnnxExplainError,
        RuntimeDiffers,
        UnsupportedOperator,
    )
    from onnxexplain.explainer import Explainer, explain, load
    from onnxexplain.explanation import Explanation
    from onnxexplain.graph import Model
    from onnxexplain.methods import methods
    from onnxexplain.ops import operator
    from onnxexplain.prototypes import Prototype, prototype
    from onnxexplain.rules import Plan

# Where each public name lives. They are fetched when first used, so that importing the package, and
# with it `onnxexplain --help`, costs nothing.
_HOMES = {
    "DeviceError": "errors",
    "Explainer": "explainer",
    "Explanation": "explanation",
    "InputError": "errors",
    "MethodError": "errors",
    "Model": "graph",
    "ModelError": "errors",
    "OnnxExplainError": "errors",
    "Plan": "rules",
    "Prototype": "prototypes",
    "RuntimeDiffers": "errors",
    "Scope": "graph.spelled",
    "UnsupportedOperator": "errors",
    "dr_network": "dr",
    "explain": "explainer",
    "load": "explainer",
    "methods": "methods",
    "operator": "ops",
    "prototype": "prototypes",
    "register_lowering": "plugins",
    "register_operator": "plugins",
}

__all__ = [
    "DeviceError",
    "Explainer",
    "Explanation",
    "InputError",
    "MethodError",
    "Model",
    "ModelError",
    "OnnxExplainError",
    "Plan",
    "Prototype",
    "RuntimeDiffers",
    "Scope",
    "UnsupportedOperator",
    "dr_network",
    "explain",
    "load",
    "methods",
    "operator",
    "prototype",
    "register_lowering",
    "register_operator",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `onnxexplain` has no attribute `{name}`")
    value = getattr(importlib.import_module(f"onnxexplain.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
