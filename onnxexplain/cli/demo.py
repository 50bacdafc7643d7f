"""``demo``: a retina, graded and explained, with nothing but what the package brings."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxexplain.cli import options as o
from onnxexplain.cli import written
from onnxexplain.cli.console import answer, hush, progress, told

if TYPE_CHECKING:
    from onnxexplain import Explanation
    from onnxexplain.figures.view import View

STEM = "dr_retina"


@told
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write into.")] = Path(
        "onnxexplain-demo"
    ),
    device: o.Device = "auto",
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    version: o.Version = False,
) -> None:
    """Explain why a network graded a synthetic retina as it did, for all five grades."""
    hush()
    begin = time.perf_counter()
    with progress(24, quiet) as tell:
        e, paths = _explained(written.ready(out), device, threads, tell)
    seconds = time.perf_counter() - begin
    if json:
        answer(_record(e, paths, seconds))
    elif not quiet:
        _show(e, out, seconds)


def _explained(
    out: Path, device: str, threads: int | None, tell: Callable[[str], None]
) -> "tuple[Explanation, list[Path]]":
    import onnxexplain
    from onnxexplain.bundled import bundled
    from onnxexplain.cli.given import read
    from onnxexplain.figures.view import View
    from onnxexplain.photograph.image import MOST_PIXELS

    tell("reading")
    model = onnxexplain.load(bundled("dr640.onnx"))
    given = read(model, bundled(f"{STEM}.png"), None, {}, MOST_PIXELS)
    truth = _grade(bundled(f"{STEM}.png"))
    tell("explaining")
    e = onnxexplain.explain(model, given.feeds, targets="all", device=device, threads=threads)
    view = View(e, 0, given.picture, truth)
    made = written.contents(view, given, written.Drawn(report=True), tell)
    paths = written.write(out, STEM, made)
    figures = written.ready(out / "figures")
    for name, figure in _figures(view, tell):
        from onnxexplain.figures.plot import png
        from onnxexplain.save import write_whole

        write_whole(figures / f"{name}.png", png(figure))
        paths.append(figures / f"{name}.png")
    return e, paths


def _grade(path: Path) -> int | None:
    """Return the grade that the retina was painted with, which the file itself may tell."""
    from PIL import Image

    with Image.open(path) as image:
        text = str(image.info.get("grade", ""))
    return int(text) if text.isdigit() else None


def _figures(view: "View", tell: Callable[[str], None]) -> Any:
    """The figures of the authors' article, one by one, so that one is in memory at a time."""
    from onnxexplain.figures import plot

    e = view.e
    yield "two-sigma", plot.two_sigma_figure(view)
    feature = view.features()
    if feature is not None:
        scores = view.unit_scores(feature)
        title = f"What each of the {scores.shape[1]} features adds to the score"
        yield "features", plot.features_figure(scores, view.titles(), title)
    blocks = view.blocks()
    for name in blocks[-2:]:
        maps = view.pick(e.layers[name].score)[view.leading]
        title = f"{name}: the score of each feature map, for {view.names[view.leading]}"
        yield f"maps-{_plain(name)}", plot.grid_figure(maps, title)
    for name in reversed(blocks):
        tell(f"drawing {name}")
        yield f"layer-{_plain(name)}", plot.layer_figure(view, name)


def _plain(name: str) -> str:
    """Return a tensor's name as a file's: ``/rf3/Relu_output_0`` as ``rf3``."""
    parts = [part for part in name.split("/") if part]
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in parts[0])


def _record(e: "Explanation", paths: list[Path], seconds: float) -> dict[str, Any]:
    from onnxexplain import save

    return {
        **save.record(e),
        "grade": int(e.logits[0].argmax()),
        "total_seconds": round(seconds, 2),
        "files": [str(path) for path in paths],
    }


def _show(e: "Explanation", out: Path, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from onnxexplain.figures.view import View

    view = View(e)
    table = Table(title=f"Grade: {view.name(view.predicted)}", title_justify="left", box=None)
    columns = ("class", "score", "shares of the pixels", "constants", "residual")
    for column in columns:
        table.add_column(column, justify="left" if column == "class" else "right")
    constants = view.pick(e.constant) if e.constant is not None else [0.0] * len(view.names)
    for name, score, constant, rest in zip(
        view.names, view.scores, constants, view.residuals() or [], strict=True
    ):
        given = score - constant
        table.add_row(name, f"{score:.3f}", f"{given:.3f}", f"{constant:.3f}", f"{rest:.1e}")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(table)
    console.print(f"\nExplained in {e.seconds:.1f} s; with figures and report {seconds:.1f} s.")
    console.print(f"Look at {out / f'{STEM}.html'} first, then at {out / f'{STEM}.gif'}.")
