"""Class activation mapping."""

from dataclasses import dataclass

from onnxexplain.errors import MethodError
from onnxexplain.methods._method import Found, Method, Way, method
from onnxexplain.methods.grad_cam import layer_maps
from onnxexplain.rules import Plan, chain
from onnxexplain.tensor import Tensor

_LINEAR = frozenset({"linear", "sum", "routing", "reduction"})


@method(
    "cam",
    summary="the last maps, weighted as the class weighs their means",
    reference="Zhou et al. 2016, arXiv 1512.04150",
    cam=True,
    everywhere=True,
)
@dataclass(frozen=True)
class Cam(Method):
    """``sum_k w_k A_k``, for models that end in global average pooling and a linear layer.

    The map's mean plus the bias is the class's score. Of all layers it takes those that only a mean
    and linear layers follow. Where the scores explained have positions of their own, as before the
    pooling of SqueezeNet, a class is their sum, which stands for the mean.
    """

    def __call__(self, way: Way) -> Found:
        """Weigh the layer's maps by the class's weights."""
        g = way.back(Plan(("*", chain)))
        found = {}
        for layer in _fitting(way, "cam"):
            maps, weights = _weighed(way, g, layer, "cam")
            found[layer] = way.xp.sum(weights * maps, axis=1, keepdims=True)
        return Found(found, g)


@method(
    "cam-topk",
    summary="CAM of the k maps that are strongest on average",
    reference="after Zhou et al. 2016, arXiv 1512.04150",
    cam=True,
    everywhere=True,
)
@dataclass(frozen=True)
class CamTopK(Method):
    """CAM, of the ``k`` channels with the largest spatial mean alone."""

    k: int = 20

    def __call__(self, way: Way) -> Found:
        """Weigh the strongest maps by the class's weights."""
        g = way.back(Plan(("*", chain)))
        found = {}
        for layer in _fitting(way, "cam-topk"):
            maps, weights = _weighed(way, g, layer, "cam-topk")
            means = way.xp.mean(maps, axis=list(range(2, maps.ndim)), keepdims=True)
            strong = means >= way.xp.kth_largest(means, self.k, axis=1)
            kept = way.xp.where(strong, weights * maps, 0.0)
            found[layer] = way.xp.sum(kept, axis=1, keepdims=True)
        return Found(found, g)


def _fitting(way: Way, name: str) -> list[str]:
    """Return the layers asked for that the method fits; one that was named alone must."""
    faults = {layer: _fault(way, layer) for layer in way.layers}
    fitting = [layer for layer, fault in faults.items() if fault is None]
    if not fitting:
        raise MethodError(f"{name}: {faults[str(way.layer)]}: take grad-cam, or name another layer")
    return fitting


def _weighed(way: Way, arrived: dict[str, Tensor], layer: str, name: str) -> tuple[Tensor, Tensor]:
    """Return a layer's maps and the class's weight of each one's mean."""
    maps = layer_maps(way, name, layer)
    g = way.first(layer, arrived[layer]) if layer in arrived else way.xp.zeros_like(maps)
    return maps, way.xp.sum(g, axis=list(range(2, maps.ndim)), keepdims=True)


def _fault(way: Way, layer: str) -> str | None:
    """Say what else than a mean and linear layers follows the maps."""
    reached, means = {layer}, 0
    for node in way.nodes:
        if reached.isdisjoint(node.inputs):
            continue
        reached.update(node.outputs)
        step = way.step(node)
        mean = "Average" in node.op_type or node.op_type == "ReduceMean"
        means += mean
        if step.operator.role not in _LINEAR and not mean:
            return (
                f"{node} follows `{layer}`; a CAM needs global average pooling and a "
                "linear layer there"
            )
    summed = way.values[way.output].ndim > 2  # a class target is the sum over the positions
    return None if means or summed else f"no global average pooling follows `{layer}`"
