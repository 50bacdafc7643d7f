"""Grad-CAM."""

from dataclasses import dataclass

from onnxexplain.errors import MethodError
from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.rules import Plan, chain
from onnxexplain.tensor import Tensor


@method(
    "grad-cam",
    summary="a layer's maps, each weighted by the mean of its gradient",
    reference="Selvaraju et al. 2017, arXiv 1610.02391",
    cam=True,
    everywhere=True,
)
@dataclass(frozen=True)
class GradCam(Method):
    """``sum_k mean(dy/dA_k) A_k``; ``relu`` keeps what speaks for the class."""

    relu: bool = True

    def __call__(self, way: Way) -> Found:
        """Weigh the layer's maps by the means of their gradients."""
        g = way.back(Plan(("*", chain)))
        found = {layer: grad_cam(way, g, layer) for layer in way.layers}
        if self.relu:
            found = {layer: way.xp.maximum(cam, 0.0) for layer, cam in found.items()}
        return Found(found, g)


def grad_cam(way: Way, arrived: dict[str, Tensor], layer: str) -> Tensor:
    """Return the weighted sum [N,1,...] of a layer's maps, before any ReLU."""
    maps = layer_maps(way, "grad-cam", layer)
    g = way.first(layer, arrived[layer]) if layer in arrived else way.xp.zeros_like(maps)
    weights = way.xp.mean(g, axis=list(range(2, maps.ndim)), keepdims=True)
    return way.xp.sum(weights * maps, axis=1, keepdims=True)


def layer_maps(way: Way, method_name: str, layer: str) -> Tensor:
    """Return a layer's activations [N,C,...], which must have positions."""
    maps = way.first(layer, way.values[layer])
    if maps.ndim < 3:
        shape = list(maps.shape)
        raise MethodError(f"{method_name}: `{layer}` has no positions (shape {shape})")
    return maps
