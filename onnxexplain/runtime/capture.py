"""Activations, captured while the model runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnxexplain.errors import DeviceError, ModelError
from onnxexplain.runtime.session import Device, Session

Array = np.ndarray[Any, Any]


def capture(
    proto: onnx.ModelProto,
    feeds: Mapping[str, Array],
    tensors: Sequence[str],
    device: Device,
    held: list[Session] | None = None,
    weights: Mapping[str, Array] | None = None,
    beside: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a model and return the named tensors, as NumPy arrays, or CuPy arrays on CUDA.

    Where an optimisation swallows a tensor, the model is run once more with all of them off.
    ``held`` keeps the session for the next call: the last one, since each may hold the weights in a
    layout of its own. It serves whoever asks for the same tensors or fewer; those ``beside`` are
    what somebody will ask for next. ``weights`` are the constants of the model, to be read where
    they lie.
    """
    given = {name: feeds[name] for name in tensors if name in feeds}
    wanted = [name for name in tensors if name not in feeds]
    if not wanted:
        return given
    fits = (s for s in held or () if s.device == device and set(wanted) <= set(s.outputs))
    session = next(fits, None)
    if session is None:
        more = [name for name in beside if name not in feeds]
        session = _tapping(proto, list(dict.fromkeys((*wanted, *more))), device, weights)
    if held is not None:
        held[:] = [session]
    if device.kind == "cuda":
        return on_gpu(given) | dict(zip(wanted, _to_cupy(session, feeds, wanted), strict=True))
    return given | dict(zip(wanted, session.run(feeds, wanted), strict=True))


def _tapping(
    proto: onnx.ModelProto,
    wanted: Sequence[str],
    device: Device,
    weights: Mapping[str, Array] | None,
) -> Session:
    try:
        return Session(proto, device, outputs=wanted, weights=weights)
    except ModelError:
        return Session(proto, device, plain=True, outputs=wanted, weights=weights)


def cupy() -> Any:
    """Return the cupy module, or say how to get it."""
    try:
        import cupy as cp
    except ImportError as error:
        raise DeviceError(
            "the eager engine needs CuPy on CUDA; install onnxexplain[gpu], or use device=cpu"
        ) from error
    return cp


def on_gpu(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Copy arrays to the GPU."""
    cp = cupy()
    return {name: cp.asarray(value) for name, value in arrays.items()}


def _to_cupy(session: Session, feeds: Mapping[str, Array], wanted: Sequence[str]) -> list[Any]:
    """Hand over the runtime's own GPU memory where it speaks DLPack, and copy where it does not."""
    cp = cupy()
    values = session.run_on_device(feeds, wanted)
    return [
        cp.from_dlpack(v) if hasattr(v, "__dlpack__") else cp.asarray(v.numpy()) for v in values
    ]
