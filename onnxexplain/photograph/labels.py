"""The names of a model's classes, from a file."""

import json
from pathlib import Path
from typing import Any

from onnxexplain.errors import InputError


def read_labels(path: str | Path) -> list[str]:
    """Return the names of the classes: one per line, ``synset_words.txt``, or JSON.

    Raises
    ------
    InputError
        if the file cannot be read, or holds no names.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: labels must be text in UTF-8") from error
    labels = _json_labels(text, path) if text.lstrip()[:1] in ("[", "{") else _lines(text)
    if not labels:
        raise InputError(f"{path}: holds no labels")
    return labels


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = [line.split(maxsplit=1) for line in lines]
    synsets = all(len(w[0]) == 9 and w[0][0] == "n" and w[0][1:].isdigit() for w in words)
    return [w[-1] for w in words] if synsets else lines


def _json_labels(text: str, path: Path) -> list[str]:
    try:
        held = json.loads(text)
        if isinstance(held, dict):
            held = _in_order({int(key): value for key, value in held.items()})
    except ValueError as error:
        raise InputError(f"{path}: labels are not JSON as expected ({error})") from error
    if not isinstance(held, list):
        raise InputError(f"{path}: labels in JSON are a list, or an object with numbers for keys")
    # Keras keeps its labels as {"0": ["n01440764", "tench"], ...}
    return [str(v[-1]) if isinstance(v, list) and v else str(v) for v in held]


def _in_order(numbered: dict[int, Any]) -> list[Any]:
    if not numbered:
        return []
    if min(numbered) < 0 or max(numbered) > 10 * len(numbered) + 100:
        raise ValueError("the numbers of the classes leave gaps")
    return [numbered.get(i, str(i)) for i in range(max(numbered) + 1)]
