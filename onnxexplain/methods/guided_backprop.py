"""Guided backpropagation and the deconvolutional network."""

from dataclasses import dataclass

from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.rules import Plan, chain, deconvolve, guided, rectifier


@method(
    "guided-backprop",
    summary="the gradient, with nothing negative let back through a ReLU",
    reference="Springenberg et al. 2014, arXiv 1412.6806",
)
@dataclass(frozen=True)
class GuidedBackprop(Method):
    """Sharp, and close to an edge detector: it changes little when the weights are shuffled."""

    def __call__(self, way: Way) -> Found:
        """Send the derivative back, every ReLU guided."""
        g = way.back(Plan((rectifier, guided), ("*", chain)))
        return Found({name: g[name] for name in way.wrt}, g)


@method(
    "deconvnet",
    summary="the gradient, with each ReLU applied to what comes back instead of what went in",
    reference="Zeiler and Fergus 2013, arXiv 1311.2901",
)
@dataclass(frozen=True)
class Deconvnet(Method):
    """The network run backwards, as a deconvolution."""

    def __call__(self, way: Way) -> Found:
        """Send the derivative back, every ReLU turned round."""
        g = way.back(Plan((rectifier, deconvolve), ("*", chain)))
        return Found({name: g[name] for name in way.wrt}, g)
