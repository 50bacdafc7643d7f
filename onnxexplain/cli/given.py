"""What is given on the command line, read: photographs, arrays, options, targets."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxexplain.errors import InputError, MethodError

if TYPE_CHECKING:
    from onnxexplain import Model
    from onnxexplain.photograph.image import Picture


@dataclass(frozen=True)
class Given:
    """One input, ready for the model: arrays by name, and the photograph where it was one."""

    path: Path
    feeds: dict[str, Any]
    picture: "Picture | None" = None


def read(model: "Model", path: Path, preset: str | None, flags: dict[str, Any], most: int) -> Given:
    """Read one input: a photograph is prepared, arrays pass through untouched."""
    if path.suffix.lower() in (".npy", ".npz"):
        return Given(path, _arrays(model, path))
    from onnxexplain.photograph.image import prepare, read_photo
    from onnxexplain.photograph.recipe import recipe_for

    if len(model.inputs) != 1:
        names = ", ".join(model.inputs)
        raise InputError(f"{path}: the model has several inputs ({names}); give them in an .npz")
    info = next(iter(model.inputs.values()))
    recipe = recipe_for(model, info, preset, flags)
    picture = prepare(read_photo(path, most), recipe, info)
    return Given(path, {info.name: picture.values}, picture)


def _arrays(model: "Model", path: Path) -> dict[str, Any]:
    from onnxexplain.arrays import read_arrays

    arrays = read_arrays(path)
    if len(model.inputs) == len(arrays) == 1:
        return dict(zip(model.inputs, arrays.values(), strict=True))
    if "" in arrays:
        names = ", ".join(model.inputs)
        raise InputError(f"{path}: the model has several inputs ({names}); give them in an .npz")
    return arrays


# ----- Options -----


def plugins(names: Sequence[str] | None) -> None:
    """Import what registers operators: installed packages, and modules, the folder's own too."""
    import sys

    from onnxexplain.plugins import load_installed, load_module

    load_installed()
    if names and "" not in sys.path:
        sys.path.insert(0, "")
    for name in names or ():
        load_module(name)


def method_options(pairs: Sequence[str], **named: Any) -> dict[str, Any]:
    """Return ``NAME=VALUE`` pairs and options that were named themselves as a dict."""
    options = {key: value for key, value in named.items() if value is not None}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise MethodError(f"--option {pair}: give NAME=VALUE, such as n_steps=100")
        options[name.strip().replace("-", "_")] = _value(text.strip())
    return options


def _value(text: str) -> Any:
    """A number, true, false or a list where it reads as one; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def recipe_flags(
    size: str | None, resize: bool | None, mean: str | None, std: str | None, **rest: Any
) -> dict[str, Any]:
    """Return the flags about photographs that were given, as a recipe's record."""
    flags = {key: value for key, value in rest.items() if value is not None}
    if size is not None:
        flags["size"] = _integers(size)
    if resize is not None:
        flags["mode"] = "resize" if resize else "crop"
    for name, text in (("mean", mean), ("std", std)):
        if text is not None:
            flags[name] = _numbers(name, text)
    return flags


def _integers(text: str) -> list[int]:
    parts = text.lower().replace("x", " ").replace(",", " ").split()
    if not all(p.isdigit() for p in parts) or len(parts) not in (1, 2) or "0" in parts:
        raise MethodError(f"--size {text}: give one side, 224, or height x width, 480x640")
    return [int(p) for p in (parts * 2)[:2]]


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise MethodError(f"--{name} {text}: give one number or three, 0.5,0.5,0.5") from error


def targets(given: Sequence[str] | None) -> dict[str, Any]:
    """Return ``-t`` as the keyword that an explainer takes."""
    if not given:
        return {"target": "top"}
    if "all" in given:
        if len(given) > 1:
            raise MethodError("-t all says it all: leave the other targets out")
        return {"targets": "all"}
    chosen = [one_class(text) for text in given]
    return {"target": chosen[0]} if len(chosen) == 1 else {"targets": chosen}


def one_class(text: str) -> int | str:
    """Return a class as number, or the label it is called by."""
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else text


def layers(given: Sequence[str] | None) -> Any:
    """Return ``--layers`` as an explainer takes it."""
    return "all" if given and "all" in given else given or None


def truths(given: Sequence[str] | None, count: int) -> list[int | str | None]:
    """Return the true class of every input, where it is known."""
    if not given:
        return [None] * count
    if len(given) not in (1, count):
        raise MethodError(f"--truth is given {len(given)} times for {count} inputs; once, or each")
    return [one_class(text) for text in (list(given) * count)[:count]]


def true_class(truth: int | str | None, labels: list[str] | None, classes: int) -> int | None:
    """Return the true class as number.

    Raises
    ------
    MethodError
        if there is no such class or label.
    """
    from onnxexplain.errors import nearest

    if isinstance(truth, str):
        if labels is None or truth not in labels:
            raise MethodError(f"--truth: no label `{truth}`{nearest(truth, labels or [])}")
        return labels.index(truth)
    if truth is not None and not 0 <= truth < classes:
        raise MethodError(f"--truth {truth} is out of range; the classes are 0 to {classes - 1}")
    return truth
