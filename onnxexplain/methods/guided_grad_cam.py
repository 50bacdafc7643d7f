"""Guided Grad-CAM."""

from dataclasses import dataclass

from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.methods.grad_cam import grad_cam
from onnxexplain.rules import Plan, chain, guided, rectifier


@method(
    "guided-grad-cam",
    summary="the guided gradient where Grad-CAM looks",
    reference="Selvaraju et al. 2017, arXiv 1610.02391, section 3.2",
    layered=True,
)
@dataclass(frozen=True)
class GuidedGradCam(Method):
    """Guided backpropagation times the layer's Grad-CAM, resized to the input."""

    def __call__(self, way: Way) -> Found:
        """Multiply the guided derivative by the resized map."""
        g = way.back(Plan(("*", chain)))
        sharp = way.back(Plan((rectifier, guided), ("*", chain)))
        cam = way.xp.maximum(grad_cam(way, g), 0.0)
        found = {}
        for name in way.wrt:
            x, found[name] = way.values[name], sharp[name]
            if x.ndim == cam.ndim:  # an input without positions keeps its guided derivative
                resized = way.xp.resize_like(cam, way.first(name, x))
                found[name] = sharp[name] * way.own(name, resized)
        return Found(found, sharp)
