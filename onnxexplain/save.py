"""Writing explanations: each file whole or not at all."""

import json
import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxexplain.errors import InputError
from onnxexplain.target import SUM

if TYPE_CHECKING:
    from onnxexplain.explanation import Explanation

FORMAT = 1
"""The version of the layout of ``.json`` and ``.npz``; raised when a reader has to change."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that no half of it is ever seen.

    Raises
    ------
    InputError
        if the folder cannot be written to, or is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """Return arrays as the content of an ``.npz`` file, without pickles."""
    buffer = BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def record(e: "Explanation", preprocess: Any = None) -> dict[str, Any]:
    """Return what was done and what came out, as JSON takes it."""
    return _members(e) | {
        "format": FORMAT,
        "model": e.model.source,
        "model_sha256": e.model.sha256,
        "versions": e.versions,
        "method": e.method,
        "options": e.options,
        "target": _target(e),
        "label": _labels(e),
        "output": e.output,
        "layer": e.layer,
        "logits": e.logits.tolist(),
        "score": e.score.tolist(),
        "constant": None if e.constant is None else e.constant.tolist(),
        "residual": None if e.residual is None else e.residual.tolist(),
        "constants": {name: value.tolist() for name, value in e.constants.items()},
        "lowered_difference": e.difference,
        "runtime_difference": e.runtime_difference,
        "preprocess": preprocess,
        "seconds": round(e.seconds, 4),
    }


def _members(e: "Explanation") -> dict[str, Any]:
    """What the models of an ensemble say each; nothing where there is one model."""
    if not e.members:
        return {}
    told = [
        {
            "model": member.model.source,
            "model_sha256": member.model.sha256,
            "output": member.output,
            "layer": member.layer,
            "score": member.score.tolist(),
        }
        for member in e.members
    ]
    return {"ensemble": told}


def _target(e: "Explanation") -> Any:
    """The classes; ``"sum"`` where that alone was asked for; None where it is not of classes."""
    if e.summed:
        return SUM
    return None if e.target is None else e.target.tolist()


def _labels(e: "Explanation") -> Any:
    """The label of every target, in its shape; None where there are none."""
    labels = e.labels
    if labels is None or e.target is None:
        return None
    flat = [labels[c] if c < len(labels) else str(c) for c in e.target.ravel()]
    return np.array(flat, object).reshape(e.target.shape).tolist()


def save(e: "Explanation", folder: Path, stem: str) -> Path:
    """Write ``<stem>.npz``, ``<stem>.json`` and ``<stem>.png``."""
    from onnxexplain.figures.panels import png

    content = {
        f"{stem}.npz": npz(e.arrays()),
        f"{stem}.png": png(e.plot()),
        f"{stem}.json": json.dumps(record(e), indent=2).encode(),
    }
    for name, data in content.items():
        write_whole(folder / name, data)
    return folder
