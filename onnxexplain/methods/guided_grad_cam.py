"""Guided Grad-CAM."""

from dataclasses import dataclass

from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.methods.grad_cam import grad_cam
from onnxexplain.rules import Plan, chain, guided, rectifier
from onnxexplain.tensor import Tensor


@method(
    "guided-grad-cam",
    summary="the guided gradient where Grad-CAM looks",
    reference="Selvaraju et al. 2017, arXiv 1610.02391, section 3.2",
    layered=True,
    everywhere=True,
)
@dataclass(frozen=True)
class GuidedGradCam(Method):
    """Guided backpropagation times the layer's Grad-CAM, resized to the input.

    At all layers at once it gives the first input with positions such a product for every layer,
    under the layer's name.
    """

    def __call__(self, way: Way) -> Found:
        """Multiply the guided derivative by the resized map."""
        g = way.back(Plan(("*", chain)))
        sharp = way.back(Plan((rectifier, guided), ("*", chain)))
        if len(way.layers) > 1:
            name = next((n for n in way.wrt if way.values[n].ndim > 2), way.wrt[0])
            seen = {layer: _seen(way, g, layer, name, sharp[name]) for layer in way.layers}
            return Found(seen, sharp)
        layer = str(way.layer)
        return Found({n: _seen(way, g, layer, n, sharp[n]) for n in way.wrt}, sharp)


def _seen(way: Way, arrived: dict[str, Tensor], layer: str, name: str, sharp: Tensor) -> Tensor:
    """Return an input's guided derivative times the layer's map at the input's positions."""
    cam, x = way.xp.maximum(grad_cam(way, arrived, layer), 0.0), way.values[name]
    if x.ndim != cam.ndim:  # an input without positions keeps its guided derivative
        return sharp
    return sharp * way.own(name, way.xp.resize_like(cam, way.first(name, x)))
