"""Operators spelled out in standard ones, one family per file; importing registers them all."""

from onnxexplain.graph.spelled import microsoft, standard
from onnxexplain.graph.spelled._spelling import Scope, Spelling, spell, spelled, spelling

__all__ = ["Scope", "Spelling", "microsoft", "spell", "spelled", "spelling", "standard"]
