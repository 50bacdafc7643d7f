"""A model without its large weights, for passes over the graph that never look at them.

ONNX's own passes hand the whole model to C++ and back, as bytes: of a model with a hundred
megabytes of weights that is most of the time.
"""

import math
from collections.abc import Callable

import onnx

LARGE = 1 << 12
"""Axes, pads, shapes and scales, which a pass may read, never hold as many elements."""

Pass = Callable[[onnx.ModelProto], onnx.ModelProto]


def apply(change: Pass, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``change(model)``, computed with every large weight standing by as an input."""
    large = [t for t in model.graph.initializer if math.prod(t.dims) > LARGE]
    if not large:
        return change(model)
    names = {t.name for t in large}
    light = _without(model, names)
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large
    )
    changed = change(light)
    inputs = [v for v in changed.graph.input if v.name not in names]
    del changed.graph.input[:]
    changed.graph.input.extend(inputs)
    changed.graph.initializer.extend(large)
    return changed


def _without(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """A copy that leaves the named weights out, without ever copying them."""
    light = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _set(light, field, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _set(light.graph, field, value)
    light.graph.initializer.extend(t for t in model.graph.initializer if t.name not in names)
    return light


def _set(message: "onnx.ModelProto | onnx.GraphProto", field: object, value: object) -> None:
    name = field.name  # type: ignore[attr-defined]
    if hasattr(value, "extend"):
        getattr(message, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)
