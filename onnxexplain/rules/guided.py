"""Rules that let only what speaks for the score through an activation."""

from typing import Any

from onnxexplain.reverse import Step
from onnxexplain.tensor import Tensor

RECTIFIERS = ("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip")
"""The activations these rules are made for: a ReLU, and what stands in for one."""


def rectifier(step: Step) -> bool:
    """Whether a step is one of the activations these rules are made for."""
    return step.node.op_type in RECTIFIERS


def guided(step: Step, g: Any) -> tuple[Tensor | None, ...]:
    """Hand on the derivative where the unit is on and what arrives is positive.

    Springenberg et al. 2014, section 3.4.
    """
    return step.back(step.xp.maximum(g, 0.0))


def deconvolve(step: Step, g: Any) -> tuple[Tensor | None, ...]:
    """Hand on what arrives where it is positive, whether the unit is on or not.

    Zeiler and Fergus 2013, section 2.1.
    """
    return (step.xp.maximum(g, 0.0), *(None,) * (len(step.inputs) - 1))
