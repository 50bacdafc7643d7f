"""The rules that need nothing but the derivative."""

from typing import Any

from onnxexplain.reverse import Step
from onnxexplain.tensor import Tensor


def chain(step: Step, g: Any) -> tuple[Tensor | None, ...]:
    """Hand on the derivative: the chain rule.

    Score propagation (de la Torre, Valls and Puig 2017) travels this way too: the score of a unit
    is its derivative times its activation, so the derivative is all that needs to be carried.
    """
    return step.back(g)
