"""What the model is: the file, its graph, its lowered form, its receptive fields."""

from onnxexplain.graph.endings import before, ends_in
from onnxexplain.graph.functions import defined
from onnxexplain.graph.layout import channels_last
from onnxexplain.graph.lower import Lowered, lower
from onnxexplain.graph.model import Model, ValueInfo, load
from onnxexplain.graph.node import Node
from onnxexplain.graph.opset import within
from onnxexplain.graph.receptive_field import ReceptiveField, receptive_fields
from onnxexplain.graph.spelled import spelled, without_derivative
from onnxexplain.graph.spelled.quantised import quantised
from onnxexplain.graph.undecided import waiting, watched

__all__ = [
    "Lowered",
    "Model",
    "Node",
    "ReceptiveField",
    "ValueInfo",
    "before",
    "channels_last",
    "defined",
    "ends_in",
    "load",
    "lower",
    "quantised",
    "receptive_fields",
    "spelled",
    "waiting",
    "watched",
    "within",
    "without_derivative",
]
