"""Writing into a model file what it says of itself: its labels, its preprocessing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxexplain.errors import InputError, MethodError, ModelError

SHORT = {"labels": "onnxexplain.labels", "preprocess": "onnxexplain.preprocess"}
"""The two properties this package reads, by the names they may be given."""


def set_metadata(model: Path, pairs: Sequence[str]) -> None:
    """Set properties of a model file, each ``KEY=VALUE``; the file is written whole or not at all.

    A value ``@FILE`` is that file's text. Weights in other files are left alone.

    Raises
    ------
    MethodError, InputError, ModelError
        if a pair has no value, a file or the model cannot be read, or the value is none of the
        property's.
    """
    import onnx
    from google.protobuf.message import DecodeError

    from onnxexplain.save import write_whole

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model.read_bytes())
    except (OSError, DecodeError) as error:
        raise ModelError(f"{model}: not an ONNX model, or cut short") from error
    held = {p.key: p.value for p in proto.metadata_props}
    for pair in pairs:
        key, value = _pair(pair)
        held[key] = value
    onnx.helper.set_model_props(proto, held)
    write_whole(model, proto.SerializeToString())


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise MethodError(f"--set-metadata {text}: give KEY=VALUE, or KEY=@FILE")
    key = SHORT.get(key, key)
    if value.startswith("@"):
        path = Path(value[1:])
        try:
            value = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text") from error
    if key in SHORT.values():
        value = json.dumps(_checked(key, value))
    return key, value


def _checked(key: str, text: str) -> Any:
    """Return what a property holds, if it is what this package reads there."""
    from onnxexplain.photograph.recipe import Recipe

    try:
        held = json.loads(text)
    except ValueError as error:
        raise InputError(f"--set-metadata {key}: the value is not JSON ({error})") from error
    if key == SHORT["preprocess"]:
        if not isinstance(held, dict):
            raise InputError(f'--set-metadata {key}: give a JSON object, such as {{"scale": 255}}')
        Recipe.read(held, f"--set-metadata {key}")
    elif not isinstance(held, list) or not all(isinstance(label, str) for label in held):
        raise InputError(f'--set-metadata {key}: give a JSON list of names, such as ["cat", "dog"]')
    return held
