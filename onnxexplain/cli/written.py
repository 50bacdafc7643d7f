"""Where the files of each explanation go, and what is in them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxexplain.errors import InputError

if TYPE_CHECKING:
    from onnxexplain import Explanation
    from onnxexplain.cli.given import Given
    from onnxexplain.figures.view import View

SUFFIXES = (".npz", ".png", ".signs.png", ".loss.png", ".json", ".gif", ".html")


@dataclass(frozen=True)
class Drawn:
    """What is drawn, and how."""

    cmap: str | None = None
    report: bool = False
    boxes: float | None = None
    """The part of a map's maximum that boxes begin at; None for no boxes."""
    min_box: int = 1
    signs: bool = False


def stems(inputs: Iterable[Path], folder: Path, precious: Iterable[Path]) -> list[str]:
    """Return a name for the files of every input.

    It is the input's own, with a number where two would be the same, or where a file that was read
    (``precious``) would be written over.
    """
    kept = {path.resolve() for path in precious}
    taken: set[str] = set()
    names = []
    for path in inputs:
        name, number = path.stem, 1
        while name.lower() in taken or _hits(folder, name, kept):
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _hits(folder: Path, name: str, kept: set[Path]) -> bool:
    return any((folder / f"{name}{suffix}").resolve() in kept for suffix in SUFFIXES)


def ready(folder: Path) -> Path:
    """Make the folder, and see that it can be written to, before anything long is computed.

    Raises
    ------
    InputError
        if it cannot.
    """
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error
    return folder


def contents(
    view: "View",
    given: "Given",
    drawn: Drawn,
    tell: Callable[[str], None],
) -> dict[str, bytes]:
    """Return the files of one explanation by suffix: arrays, picture, record, and what was asked.

    All of them are made before any is written.
    """
    from onnxexplain import save
    from onnxexplain.cli.console import to_json
    from onnxexplain.figures import plot
    from onnxexplain.figures.report import ahead, page

    e = view.e
    if drawn.report:
        ahead(view)
    made = {".npz": save.npz(e.arrays())}
    tell("drawing")
    pictures = given.picture if e.score.shape[-1] == 1 else None
    figure = plot.explanation_figure(
        e, pictures, drawn.cmap, view.truth, drawn.boxes, drawn.min_box
    )
    made[".png"] = plot.png(figure)
    if drawn.signs:
        made[".signs.png"] = plot.png(plot.signs_figure(view))
    if view.whole and view.has_positions and view.photograph is not None:
        made[".gif"] = plot.blinking(view.photograph, view.two_sigma()[view.leading])
    if drawn.report:
        made[".html"] = page(view, drawn.cmap, tell).encode("utf-8", "replace")
    preprocess = given.picture.record() if given.picture else None
    record = save.record(e, preprocess) | {"input": str(given.path), "truth": view.truth}
    if drawn.boxes is not None:
        record["boxes"] = boxed(view, drawn.boxes, drawn.min_box)
    made[".json"] = to_json(record).encode()
    return made


def boxed(view: "View", threshold: float, min_size: int) -> list[dict[str, Any]]:
    """Return the boxes as records; where there is a photograph, in its pixels too."""
    from onnxexplain.figures.outlines import of, on_photograph
    from onnxexplain.photograph.image import Picture

    boxes: list[dict[str, Any]] = []
    for box in view.e.boxes(threshold, min_size=min_size):
        boxes.append(dict(box))
        if isinstance(view.image, Picture):
            place = on_photograph(view, of(box), view.image.photo.shape[:2])
            boxes[-1]["photograph"] = [round(v, 1) for v in place]
    return boxes


def write(folder: Path, stem: str, made: dict[str, bytes]) -> list[Path]:
    """Write the files of one explanation: all of them, each whole, or none.

    They are written beside their place first, so that a full disk leaves what was there before.
    """
    import tempfile

    from onnxexplain.save import write_whole

    names = [f"{stem}{suffix}" for suffix in made]
    for name in names:
        if (folder / name).is_dir():
            raise InputError(f"{folder / name}: is a folder, and would have to be a file")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{stem}.") as beside:
            for name, content in zip(names, made.values(), strict=True):
                write_whole(Path(beside) / name, content)
            for name in names:
                (Path(beside) / name).replace(folder / name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error
    except InputError as error:
        reason = str(error).rpartition(": ")[2]
        raise InputError(f"{folder / stem}: {reason}") from error
    return [folder / name for name in names]


def line(e: "Explanation", stem: str, folder: Path, made: Iterable[str]) -> str:
    """Say in one line what came out and where it lies."""
    from onnxexplain.figures.view import View

    view = View(e)
    name = view.names[view.leading]
    which = f"score {view.scores[view.leading]:.5g}"
    if name != "the score":
        which = f"{name}, {which}"
    rest = view.residuals()
    if rest:
        which += f", residual {abs(rest[view.leading]):.0e}"
    return f"{stem}: {which} -> {folder / stem}{{{','.join(sorted(made))}}}"


def summary(e: "Explanation", given: "Given", paths: list[Path]) -> dict[str, Any]:
    """Return the same for machines."""
    from onnxexplain import save

    record = save.record(e, given.picture.record() if given.picture else None)
    short = ("method", "target", "label", "output", "logits", "score", "constant", "residual")
    kept = {key: record[key] for key in (*short, "seconds")}
    return {"input": str(given.path), **kept, "files": [str(path) for path in paths]}
