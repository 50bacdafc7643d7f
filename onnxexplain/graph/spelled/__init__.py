"""Operators spelled out in standard ones, one family per file; importing registers them all."""

from onnxexplain.graph.spelled import microsoft, standard
from onnxexplain.graph.spelled._spelling import Scope, spell, spelled, spelling

__all__ = ["Scope", "microsoft", "spell", "spelled", "spelling", "standard"]
