"""How one node shares what arrives. No rule here knows which operator it runs on."""

from onnxexplain.rules.basic import chain
from onnxexplain.rules.plan import Plan

__all__ = ["Plan", "chain"]
