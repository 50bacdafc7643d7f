"""How one node shares what arrives. No rule here knows which operator it runs on."""

from onnxexplain.rules.basic import chain
from onnxexplain.rules.guided import deconvolve, guided, rectifier
from onnxexplain.rules.plan import Plan

__all__ = ["Plan", "chain", "deconvolve", "guided", "rectifier"]
