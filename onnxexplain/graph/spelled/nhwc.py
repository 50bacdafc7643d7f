"""Operators of ONNX Runtime that keep the channels last (NHWC)."""

import numpy as np

from onnxexplain.graph.spelled._spelling import Scope, spelling
from onnxexplain.graph.spelled.microsoft import DOMAIN, activated, parted, put


def _first(scope: Scope, x: str, rank: int) -> str:
    return scope.write("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])


def _last(scope: Scope, x: str, rank: int, to: str) -> None:
    scope.write("Transpose", x, to=to, perm=[0, *range(2, rank), 1])


@spelling("NhwcMaxPool", domain=DOMAIN)
def nhwc_max_pool(scope: Scope) -> bool:
    """MaxPool, the channels last."""
    said = scope.node.attributes
    rank = len(said["kernel_shape"]) + 2
    y = scope.write("MaxPool", _first(scope, scope.node.inputs[0], rank), **said)
    _last(scope, y, rank, scope.node.outputs[0])
    return True


@spelling("NhwcConv", domain=DOMAIN)
@spelling("NhwcFusedConv", domain=DOMAIN)
def nhwc_conv(scope: Scope) -> bool:
    """Conv, and what is fused to it, the channels last; the weight may have them last as well."""
    x, weight = scope.node.inputs[:2]
    shape, kernel = scope.shape(x), scope.shape(weight)
    if shape is None or kernel is None:
        return False
    said, rank = dict(scope.node.attributes), len(shape)
    fused = parted(said, "activation")
    if kernel[1] * said.get("group", 1) != shape[-1]:
        weight = _first(scope, weight, rank)
    given = [_first(scope, x, rank), weight, *filter(None, scope.node.inputs[2:3])]
    y = scope.write("Conv", *given, **said)
    if put(scope, 3):
        y = scope.write("Add", y, _first(scope, put(scope, 3), rank))
    active = scope.fresh("activated")
    activated(scope, y, fused.get("activation", ""), fused.get("activation_params", ()), active)
    _last(scope, active, rank, scope.node.outputs[0])
    return True


@spelling("GroupNorm", domain=DOMAIN)
@spelling("SkipGroupNorm", domain=DOMAIN)
def group_norm(scope: Scope) -> bool:
    """GroupNormalization, the channels last or not, of a sum or not, SiLU behind it or not."""
    said, (y, *sums) = scope.node.attributes, scope.node.outputs
    x, skip, bias = put(scope, 0), put(scope, 3), put(scope, 4)
    shape, skipped = scope.shape(x), scope.shape(skip) if skip else ()
    if shape is None or skipped is None:
        return False
    rank, last = len(shape), bool(said.get("channels_last", 1))
    if skip:
        if len(skipped) == 2:  # one number per channel
            ones = (1,) * (rank - 2)
            sizes = (skipped[0], *ones, skipped[1]) if last else (*skipped, *ones)
            skip = scope.write("Reshape", skip, scope.constant(np.array(sizes)))
        x = scope.write("Sum", *filter(None, (x, skip, bias)), to=sums[0] if sums else "")
    said_of = {"num_groups": said["groups"], "epsilon": said.get("epsilon", 1e-5)}
    turned = _first(scope, x, rank) if last else x
    made = scope.write("GroupNormalization", turned, put(scope, 1), put(scope, 2), **said_of)
    if said["activation"]:
        made = scope.write("Mul", made, scope.write("Sigmoid", made))
    if last:
        _last(scope, made, rank, y)
    else:
        scope.write("Identity", made, to=y)
    return True
