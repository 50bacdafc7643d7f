"""A model without its large weights, for whoever never looks at them.

ONNX's own passes hand the whole model to C++ and back, as bytes, and so does making a session: of a
model with a hundred megabytes of weights that is most of the time.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnxexplain.graph.node import reads

Array = np.ndarray[Any, Any]

LARGE = 1 << 12
"""Axes, pads, shapes and scales, which a pass may read, never hold as many elements."""

Pass = Callable[[onnx.ModelProto], onnx.ModelProto]

_PLAIN = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT32,
        TensorProto.INT64,
    }
)
"""What NumPy and the runtime hold in the same way."""


def apply(change: Pass, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``change(model)``, computed with every large weight standing by as an input.

    ``model`` itself becomes what is returned, so that these weights are never copied.
    """
    large = {t.name for t in model.graph.initializer if _large(t)}
    if not large:
        return change(model)
    changed = change(standing_by(model))
    inputs = changed.graph.input
    for i in [i for i, v in enumerate(inputs) if v.name in large][::-1]:
        del inputs[i]
    held = model.graph.initializer
    for i in [i for i, t in enumerate(held) if t.name not in large][::-1]:
        del held[i]
    for message, kept in ((model, "graph"), (model.graph, "initializer")):
        for field, _ in message.ListFields():
            if field.name != kept:
                message.ClearField(field.name)
    _copy(changed, model)
    held.extend(changed.graph.initializer)
    return model


def standing_by(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every large weight is an input; the model itself if it has none."""
    large = [t for t in model.graph.initializer if _large(t)]
    if not large:
        return model
    light = without(model, {t.name for t in large})
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large
    )
    return light


def lying_outside(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large weights are only named, to be handed to the runtime beside it."""
    names = {t.name for t in model.graph.initializer if _large(t) and t.data_type in _PLAIN}
    light = without(model, names)
    for tensor in model.graph.initializer:
        if tensor.name in names:
            _name(light.graph, tensor.name, tensor.data_type, tensor.dims)
    return light


def hold(graph: onnx.GraphProto, constants: Mapping[str, Array]) -> None:
    """Give a graph constants, of which the large ones are only named."""
    for name, value in constants.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        if value.size > LARGE and kind in _PLAIN:
            _name(graph, name, kind, value.shape)
        else:
            graph.initializer.append(numpy_helper.from_array(value, name))


def _name(graph: onnx.GraphProto, name: str, data_type: int, shape: Iterable[int]) -> None:
    told = graph.initializer.add(name=name, data_type=data_type)
    told.dims.extend(shape)
    told.data_location = TensorProto.EXTERNAL
    told.external_data.add(key="location", value="outside")


def drop_unread(model: onnx.ModelProto) -> None:
    """Drop weights that nothing reads: the runtime does so itself, and then cannot take them."""
    read = {t for node in model.graph.node for t in reads(node)}
    read |= {v.name for v in model.graph.output}
    unread = {t.name for t in model.graph.initializer} - read
    for field in (model.graph.initializer, model.graph.input):  # old files list weights as inputs
        for i in [i for i, t in enumerate(field) if t.name in unread][::-1]:
            del field[i]  # what stays is not copied


def outside(tensor: onnx.TensorProto) -> bool:
    """Whether a weight is only named."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def whole(light: onnx.ModelProto, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """Return a copy in which the weights that lie outside are brought back."""
    names = [t.name for t in light.graph.initializer if outside(t)]
    model = without(light, names)
    model.graph.initializer.extend(numpy_helper.from_array(weights[n], n) for n in names)
    return model


def without(model: onnx.ModelProto, names: Container[str]) -> onnx.ModelProto:
    """Return a copy that leaves the named weights out, without ever copying them."""
    light = onnx.ModelProto()
    _copy(model, light)
    light.graph.initializer.extend(t for t in model.graph.initializer if t.name not in names)
    return light


def _large(tensor: onnx.TensorProto) -> bool:
    return bool(math.prod(tensor.dims) > LARGE)


def _copy(model: onnx.ModelProto, into: onnx.ModelProto) -> None:
    """Copy all but the weights."""
    for field, value in model.ListFields():
        if field.name != "graph":
            _set(into, field, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _set(into.graph, field, value)


def _set(message: "onnx.ModelProto | onnx.GraphProto", field: object, value: object) -> None:
    name = field.name  # type: ignore[attr-defined]
    if hasattr(value, "extend"):
        getattr(message, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)
