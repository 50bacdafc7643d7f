"""Quantised networks: every tensor of integers brought to the floats that they stand for.

``grid`` says what the integers stand for, ``step`` what a handler looks at and writes, ``moves``
what is done to integers as to floats, ``standard`` and ``microsoft`` are the handlers, ``walk``
calls them node by node.
"""

from onnxexplain.graph.spelled._spelling import Scope, spelling
from onnxexplain.graph.spelled.quantised import microsoft, standard
from onnxexplain.graph.spelled.quantised.grid import dequantised
from onnxexplain.graph.spelled.quantised.step import HANDLERS
from onnxexplain.graph.spelled.quantised.walk import dequantise

__all__ = ["dequantise", "dequantised", "microsoft", "quantised", "standard"]


def _whole_graph(scope: Scope) -> bool:
    """Left to the walk, which sees what is before and behind a node."""
    return False


for _domain, _op_type in HANDLERS:
    if _op_type not in ("Cast", "Mul"):
        spelling(_op_type, domain=_domain)(_whole_graph)


def quantised(domain: str, op_type: str) -> bool:
    """Whether an operator is one of a quantised network."""
    return (domain, op_type) in HANDLERS and op_type not in ("Cast", "Mul")
