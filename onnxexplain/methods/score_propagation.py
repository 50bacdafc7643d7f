"""Score propagation: every pixel's and every constant's share of the score."""

from dataclasses import dataclass
from typing import Literal

from onnxexplain.methods import held
from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.rules import Plan, chain


@method(
    "score-propagation",
    summary="the score, shared out exactly over the input and over the constants of every layer",
    reference="de la Torre, Valls and Puig 2017, arXiv 1712.08107; Neurocomputing 396 (2020) 465",
    shares=True,
)
@dataclass(frozen=True)
class ScorePropagation(Method):
    """The score of a unit splits into what its inputs brought and what its constants added.

    A unit's score is proportional to its activation, so it is its derivative times its activation;
    the constant part of a layer is the derivative times its offset. Carried to the input through
    each unit's receptive field, the constants complete the map: with the shares of the input they
    add up to the score.

    Parameters
    ----------
    receptive_field
        ``true``, pools counted; or ``nominal``, the papers' names of the layers, without them.
    prior
        how a unit's constant spreads over its field: a normal of sigma = size / 4 cut off at two
        sigma (``gauss``), ``flat``, or its centre alone (``delta``).
    ties
        which of equal elements a max pool hands its score to: the ``first``, or all (``share``).
    product
        what a product of two activations does: each factor gets the whole score of the product,
        and the constant takes one away again (``share``, the general rule); or one factor weighs
        the other, gets nothing, and no constant is left (``gate``).
    norm
        whether a normalisation's mean and deviation change with the input, which leaves almost
        everything to its constant (``exact``), or count as constants (``detached``).
    """

    receptive_field: Literal["true", "nominal"] = "true"
    prior: Literal["gauss", "flat", "delta"] = "gauss"
    ties: Literal["first", "share"] = "first"
    product: Literal["share", "gate"] = "share"
    norm: Literal["exact", "detached"] = "exact"

    def reading(self, way: Way) -> Way:
        """Hold fixed what the options say."""
        way = held.gated(way) if self.product == "gate" else way
        return held.detached(way) if self.norm == "detached" else way

    def __call__(self, way: Way) -> Found:
        """Multiply the derivative by the activation; the constants are the book-keeping's."""
        g = way.back(Plan(("*", chain)))
        return Found({name: way.xp.scale(g[name], way.values[name]) for name in way.wrt}, g)
