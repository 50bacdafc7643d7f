"""What every command shares: one line for each error, progress, and answers for machines."""

import functools
import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer

from onnxexplain.errors import InputError, MethodError, OnnxExplainError, RuntimeDiffers

P = ParamSpec("P")
R = TypeVar("R")


class Failure(typer.Exit):
    """A command has said what went wrong and ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class MissingFileError(InputError):
    """A file named on the command line does not exist."""


def existing(path: Path) -> Path:
    """Return the path if something is there.

    Raises
    ------
    MissingFileError
        otherwise, with the nearest names in that folder.
    """
    if path.exists():
        return path
    from onnxexplain.errors import nearest

    try:
        beside = [p.name for p in path.parent.iterdir() if p.suffix == path.suffix]
    except OSError:
        beside = []
    raise MissingFileError(f"{path}: no such file{nearest(path.name, sorted(beside))}")


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end in one line and an exit code, whatever it raises, unless ``--debug``.

    What the package itself warns of is a line, too, unless ``--quiet``.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", RuntimeDiffers)  # of every input, not of the first
                warnings.showwarning = _one_line_for_ours(bool(kwargs.get("quiet")))
                return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if kwargs.get("debug"):
                raise
            raise Failure(complain(error)) from None

    return run


def _one_line_for_ours(quiet: bool) -> Callable[..., None]:
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **said: Any) -> None:
        if not issubclass(category, RuntimeDiffers):
            shown(message, category, *where, **said)
        elif not quiet:
            warn(str(message))

    return show


def complain(error: Exception) -> int:
    """Print an error as one line and return the exit code that belongs to it."""
    code = 2 if isinstance(error, (MethodError, MissingFileError)) else 1
    if isinstance(error, OnnxExplainError):
        text = as_flags(str(error))
    elif isinstance(error, MemoryError):
        text = "not enough memory; explain fewer classes at once, or a smaller image"
    else:
        kind = type(error).__name__
        text = f"unexpected {kind}: {error} (run again with --debug for the traceback)"
    print(one_line(f"onnxexplain: {text}"), file=sys.stderr)
    return code


def warn(text: str) -> None:
    """Print one line about what may have gone wrong, on stderr."""
    print(one_line(f"onnxexplain: {text}"), file=sys.stderr)


def as_flags(text: str) -> str:
    """Return a message with Python's ``labels=`` as the command line's ``--labels``."""
    given = re.sub(r"\b(layer|engine|combine)=([a-z]+)", r"--\1 \2", text)
    given = re.sub(r"\b([a-z]+)=(?=`)", r"--\1 ", given)
    return re.sub(r"\b([a-z]+)=(?![\w\"'])", r"--\1", given)


def one_line(text: str) -> str:
    """Return a message without line breaks or control characters."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in flat)


# ----- Answers -----


def answer(record: Any) -> None:
    """Print a record as JSON on the standard output."""
    print(to_json(record))


def to_json(record: Any) -> str:
    """Return a record as JSON that any parser takes: no NaN, no infinity; numbers in one line."""
    text = json.dumps(_finite(record), indent=2, default=str, allow_nan=False)
    # A line break is never inside a string, so this meets lists of numbers only.
    return re.sub(r"\[\n\s+([^\[\]{}\"]*?)\n\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


# ----- Progress -----

Tell = Callable[[str], None]
"""Called with what is being done now; each call is one step further."""


@contextmanager
def progress(steps: int, quiet: bool) -> Iterator[Tell]:
    """Show a bar on stderr where a person looks at it; else do nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(24), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps)

        def tell(text: str) -> None:
            bar.update(task, description=text, advance=1)

        yield tell


def hush() -> None:
    """Keep libraries that talk by themselves from mixing into the answer."""
    import logging

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    logging.getLogger("PIL").setLevel(logging.ERROR)
