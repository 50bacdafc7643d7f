"""The gradient."""

from dataclasses import dataclass
from typing import Literal

from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.rules import Plan, chain
from onnxexplain.tensor import Namespace, Tensor

Part = Literal["signed", "positive", "negative", "absolute", "squared"]


@method(
    "gradient",
    summary="how the score changes with each input element",
    reference="Simonyan, Vedaldi and Zisserman 2013, arXiv 1312.6034",
)
@dataclass(frozen=True)
class Gradient(Method):
    """The derivative of the score, or a part of it (``squared`` is sensitivity analysis)."""

    part: Part = "signed"

    def __call__(self, way: Way) -> Found:
        """Take the derivative at each tensor asked for."""
        g = way.back(Plan(("*", chain)))
        return Found({name: _part(way.xp, g[name], self.part) for name in way.wrt}, g)


def _part(xp: Namespace, g: Tensor, part: Part) -> Tensor:
    if part == "positive":
        return xp.maximum(g, 0.0)
    if part == "negative":
        return xp.minimum(g, 0.0)
    if part == "absolute":
        return xp.abs(g)
    return g * g if part == "squared" else g
