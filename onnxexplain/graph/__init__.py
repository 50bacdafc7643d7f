"""What the model is: the file, its graph, its lowered form, its receptive fields."""

from onnxexplain.graph.layout import channels_last
from onnxexplain.graph.lower import Lowered, lower, within
from onnxexplain.graph.model import Model, ValueInfo, load
from onnxexplain.graph.node import Node
from onnxexplain.graph.receptive_field import ReceptiveField, receptive_fields

__all__ = [
    "Lowered",
    "Model",
    "Node",
    "ReceptiveField",
    "ValueInfo",
    "channels_last",
    "load",
    "lower",
    "receptive_fields",
    "within",
]
