"""The words rules are written in: the same for arrays and for ONNX nodes."""

from onnxexplain.tensor.arrays import Arrays
from onnxexplain.tensor.emit import Tape
from onnxexplain.tensor.namespace import Namespace, Tensor, Window
from onnxexplain.tensor.symbol import Symbol

__all__ = ["Arrays", "Namespace", "Symbol", "Tape", "Tensor", "Window"]
