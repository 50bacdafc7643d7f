"""Grad-CAM."""

from dataclasses import dataclass

from onnxexplain.errors import MethodError
from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.rules import Plan, chain


@method(
    "grad-cam",
    summary="a layer's maps, each weighted by the mean of its gradient",
    reference="Selvaraju et al. 2017, arXiv 1610.02391",
    cam=True,
)
@dataclass(frozen=True)
class GradCam(Method):
    """``sum_k mean(dy/dA_k) A_k``; ``relu`` keeps what speaks for the class."""

    relu: bool = True

    def __call__(self, way: Way) -> Found:
        """Weigh the layer's maps by the means of their gradients."""
        g = way.back(Plan(("*", chain)))
        layer = str(way.layer)
        maps = way.values[layer]
        if maps.ndim < 3:
            raise MethodError(f"grad-cam: `{layer}` has no positions (shape {list(maps.shape)})")
        arrived = g[layer] if layer in g else way.xp.zeros_like(maps)
        weights = way.xp.mean(arrived, axis=list(range(2, maps.ndim)), keepdims=True)
        cam = way.xp.sum(weights * maps, axis=1, keepdims=True)
        return Found({layer: way.xp.maximum(cam, 0.0) if self.relu else cam}, g)
