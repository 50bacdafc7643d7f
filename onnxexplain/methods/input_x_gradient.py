"""Input times gradient."""

from dataclasses import dataclass

from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.rules import Plan, chain


@method(
    "input-x-gradient",
    summary="the gradient times the input; what is missing to the score are the constants",
    reference="Shrikumar et al. 2016, arXiv 1605.01713",
    shares=True,
)
@dataclass(frozen=True)
class InputXGradient(Method):
    """Each input element's share of the score by the tangent at this very point."""

    def __call__(self, way: Way) -> Found:
        """Multiply the derivative by the tensor itself."""
        g = way.back(Plan(("*", chain)))
        return Found({name: way.xp.scale(g[name], way.values[name]) for name in way.wrt}, g)
