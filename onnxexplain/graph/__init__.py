"""What the model is: the file, its graph, its lowered form, its receptive fields."""

from onnxexplain.graph.functions import defined
from onnxexplain.graph.layout import channels_last
from onnxexplain.graph.lower import Lowered, lower
from onnxexplain.graph.model import Model, ValueInfo, load
from onnxexplain.graph.node import Node
from onnxexplain.graph.opset import within
from onnxexplain.graph.receptive_field import ReceptiveField, receptive_fields
from onnxexplain.graph.spelled import spelled
from onnxexplain.graph.undecided import waiting, watched

__all__ = [
    "Lowered",
    "Model",
    "Node",
    "ReceptiveField",
    "ValueInfo",
    "channels_last",
    "defined",
    "load",
    "lower",
    "receptive_fields",
    "spelled",
    "waiting",
    "watched",
    "within",
]
