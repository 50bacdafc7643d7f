"""Everything that can go wrong, as one tree.

OnnxExplainError
  ModelError           (ValueError)           the file is no model, or a model that cannot be used
  UnsupportedOperator  (NotImplementedError)  an operator on the way has no way back
  InputError           (ValueError)           the data does not fit the model
  MethodError          (ValueError)           no such method, option, layer or target
  DeviceError          (RuntimeError)         the device, or what it needs, is not there

Each message is one line that says where, what, and what to do. ``RuntimeDiffers`` is no error but a
warning: the explanation stands for what the file says, and this machine's runtime computes
something else.
"""

import difflib
from collections.abc import Iterable


class OnnxExplainError(Exception):
    """Every error that this package raises on purpose."""

    def __init__(self, message: str = "") -> None:
        # A name out of a hostile file may hold line breaks, or codes that a terminal obeys.
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


class ModelError(OnnxExplainError, ValueError):
    """The model file cannot be read, or holds what cannot be explained."""


class UnsupportedOperator(OnnxExplainError, NotImplementedError):  # noqa: N818 - public name
    """An operator between the input and the score has no way back."""


class InputError(OnnxExplainError, ValueError):
    """The data handed in does not fit the model."""


class MethodError(OnnxExplainError, ValueError):
    """A method, option, layer or target that does not exist or does not fit."""


class DeviceError(OnnxExplainError, RuntimeError):
    """The device asked for, or a library it needs, is missing."""


class RuntimeDiffers(UserWarning):
    """ONNX Runtime answers otherwise on this processor than the model's file says."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return the names most like ``name`` as an ending for an error message."""
    known = list(known)
    close = difflib.get_close_matches(name, known, count, 0.0) or known[:count]
    return f"; nearest: {', '.join(close)}" if close else ""
