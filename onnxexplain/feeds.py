"""What a caller hands in, checked against what the model takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxexplain.errors import InputError, nearest
from onnxexplain.graph import Model, ValueInfo

Array = np.ndarray[Any, Any]


def read(model: Model, data: Any, dtype: str = "float32") -> dict[str, Array]:
    """Return the feeds of a model: every input by name, floats in float32.

    Where the file itself takes doubles, they are in ``dtype``.

    Raises
    ------
    InputError
        if a name, rank, size or dtype is not the model's, or a value is not finite.
    """
    if not isinstance(data, Mapping):
        if len(model.inputs) != 1:
            names = ", ".join(model.inputs)
            raise InputError(
                f"the model has {len(model.inputs)} inputs ({names}); give them by name"
            )
        data = {next(iter(model.inputs)): data}
    for name in data:
        if name not in model.inputs:
            raise InputError(f"the model has no input `{name}`{nearest(str(name), model.inputs)}")
    missing = [name for name in model.inputs if name not in data]
    if missing:
        raise InputError(f"the input `{missing[0]}` is missing")
    inputs = model.inputs.items()
    return {name: _fitted(info, _array(name, data[name]), dtype) for name, info in inputs}


def _array(name: str, given: Any) -> Array:
    try:
        return np.asarray(given)
    except Exception as error:  # whatever a foreign array raises when it is asked for its elements
        line = " ".join(str(error).split())
        raise InputError(f"input `{name}` cannot be read as an array ({line})") from error


def _fitted(info: ValueInfo, array: Array, dtype: str) -> Array:
    where = f"input `{info.name}`"
    wanted = np.dtype(info.dtype) if info.dtype != "unknown" else array.dtype
    floating = _is_float(wanted)
    if floating != _is_float(array.dtype) or (not floating and array.dtype != wanted):
        raise InputError(f"{where} has dtype {array.dtype}; the model takes {wanted}")
    _check_shape(where, info, array)
    if not floating:
        return array
    with np.errstate(over="ignore"):
        fitted = np.ascontiguousarray(array, dtype if wanted.itemsize == 8 else np.float32)
        taken = fitted.astype(wanted, copy=False)
    if not np.isfinite(taken).all():
        what = "values that are NaN, infinite or too large"
        raise InputError(f"{where} holds {what}; explanations need finite ones")
    return fitted


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"


def _check_shape(where: str, info: ValueInfo, array: Array) -> None:
    if info.shape is None:
        return
    said = "[" + ", ".join(str(d) if d is not None else "?" for d in info.shape) + "]"
    given = list(array.shape)
    if array.ndim == len(info.shape) - 1:
        raise InputError(
            f"{where} has shape {given}; the model takes {said}: is the batch axis missing? "
            "(x[None] adds it)"
        )
    fits = array.ndim == len(info.shape)
    free = [axis == 0 and d == 1 for axis, d in enumerate(info.shape)]  # run one by one
    if fits:
        pairs = zip(given, info.shape, free, strict=True)
        fits = all(any_ or not isinstance(d, int) or d == n for n, d, any_ in pairs)
    if not fits or 0 in given:
        raise InputError(f"{where} has shape {given}; the model takes {said}")


def per_sample(model: Model) -> frozenset[str]:
    """Return the inputs whose axis 0 is the batch.

    It is where it is free; where no input's is, those fixed to 1 are run sample by sample. An input
    of another fixed length there is one thing for all samples.
    """
    first = {n: i.shape[0] for n, i in model.inputs.items() if i.shape}
    fixed = {n: d for n, d in first.items() if isinstance(d, int)}
    free = first.keys() - fixed.keys() | {n for n, i in model.inputs.items() if i.shape is None}
    ones = {n for n, d in fixed.items() if d == 1}
    most = max(fixed.values(), default=0)
    return frozenset(free or ones or {n for n, d in fixed.items() if d == most})


def batch(model: Model, feeds: Mapping[str, Array]) -> int:
    """Return the number of samples.

    Raises
    ------
    InputError
        if the inputs do not agree on it.
    """
    lengths = {n: feeds[n].shape[0] for n in per_sample(model) if feeds[n].ndim}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise InputError(f"the inputs differ in the number of samples: {told}")
    return next(iter(lengths.values()), 1)


def sample(model: Model, feeds: Mapping[str, Array], i: int, n: int) -> dict[str, Array]:
    """Return sample ``i`` of ``n`` as a batch of one."""
    if n == 1:
        return dict(feeds)
    cut = per_sample(model)
    return {name: v[i : i + 1] if name in cut and v.ndim else v for name, v in feeds.items()}
