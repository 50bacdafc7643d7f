"""Operators spelled out in standard ones, one family per file; importing registers them all."""

from onnxexplain.graph.spelled import (
    attention,
    control,
    fused_attention,
    learning,
    microsoft,
    nhwc,
    quantised,
    recurrent,
    sequences,
    standard,
    stateful,
    transformers,
)
from onnxexplain.graph.spelled._spelling import Ledger, Scope, Spelling, spell, spelled, spelling
from onnxexplain.graph.spelled.learning import unzip, without_derivative
from onnxexplain.graph.spelled.quantised import dequantise

__all__ = [
    "Ledger",
    "Scope",
    "Spelling",
    "attention",
    "control",
    "dequantise",
    "fused_attention",
    "learning",
    "microsoft",
    "nhwc",
    "quantised",
    "recurrent",
    "sequences",
    "spell",
    "spelled",
    "spelling",
    "standard",
    "stateful",
    "transformers",
    "unzip",
    "without_derivative",
]
