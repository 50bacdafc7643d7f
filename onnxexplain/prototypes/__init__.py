"""Class prototypes: the images that a model takes most for its classes."""

from onnxexplain.prototypes.paint import prototype
from onnxexplain.prototypes.result import Prototype

__all__ = ["Prototype", "prototype"]
