"""What an explainer is asked for, refused before anything runs where it cannot be."""

from collections.abc import Sequence
from typing import Any

from onnxexplain.errors import MethodError
from onnxexplain.methods import Method
from onnxexplain.methods.layers import EVERY


def check_names(**given: Any) -> None:
    """Refuse what is no name, by the name of its option."""
    for what, value in given.items():
        if not isinstance(value, str):
            raise MethodError(f"{what} is {value!r}; it must be a name")


def check_lists(**given: Any) -> None:
    """Refuse what is neither a name nor a list of names."""
    for what, value in given.items():
        if not isinstance(value, str | Sequence | None):
            raise MethodError(f"{what} is {value!r}; it must be a name, or a list of names")


def check_layer(layer: str | None, method: Method) -> None:
    """Refuse a layer where the method looks at none, and all where it looks at one."""
    if layer is not None and not method.layered:
        raise MethodError(
            f"{method.name} looks at no single layer; layer= is for CAMs, see layers="
        )
    if layer == EVERY and not method.everywhere:
        raise MethodError(f"{method.name} looks at one layer at a time; name it with layer=")


def engine_for(asked: str, dtype: str, method: Method) -> str:
    """Return the engine that runs a method: compiled where nothing speaks against it."""
    one_of("dtype", dtype, ("float32", "float64"))
    one_of("engine", asked, ("auto", "compiled", "eager"))
    if asked == "compiled" and dtype == "float64":
        raise MethodError("dtype float64 needs engine=eager: no provider computes in it")
    if asked == "compiled" and not method.compiles:
        raise MethodError(f"{method.name} looks at values while it runs; it needs engine=eager")
    plain = dtype == "float32" and asked != "eager" and method.compiles
    return "compiled" if plain else "eager"


def one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is none of the known ones."""
    if value not in known:
        raise MethodError(f"no {what} `{value}`; one of {', '.join(known)}")
