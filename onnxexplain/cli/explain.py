"""``explain``: one picture, one record and every array per input."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from onnxexplain.cli import given as g
from onnxexplain.cli import options as o
from onnxexplain.cli import written
from onnxexplain.cli.console import answer, complain, existing, hush, progress, told, warn
from onnxexplain.errors import InputError, MethodError, OnnxExplainError

if TYPE_CHECKING:
    from onnxexplain import Explainer

MOST_PIXELS = 50_000_000


@told
def explain(
    model: o.Model,
    inputs: o.Inputs,
    method: o.Method = "score-propagation",
    target: o.Targets = None,
    out: o.Out = Path("explanations"),
    report: o.Report = False,
    layer: o.Layer = None,
    layers: o.Layers = None,
    ensemble: o.Ensemble = None,
    combine: o.Combine = "mean",
    combine_threshold: o.CombineThreshold = 0.0,
    receptive_field: o.ReceptiveField = None,
    prior: o.Prior = None,
    ties: o.Ties = None,
    option: o.MethodOption = None,
    against: o.Against = None,
    output: o.Output = None,
    wrt: o.Wrt = None,
    truth: o.Truth = None,
    boxes: o.Boxes = None,
    min_box: o.MinBox = 1,
    signs: o.Signs = False,
    cmap: o.Cmap = None,
    preprocess: o.Preprocess = None,
    size: o.Size = None,
    resize: o.Resize = None,
    scale: o.Scale = None,
    mean: o.Mean = None,
    std: o.Std = None,
    channels: o.Channels = None,
    layout: o.Layout = None,
    interpolation: o.Interpolation = None,
    labels: o.Labels = None,
    max_pixels: o.MaxPixels = MOST_PIXELS,
    engine: o.Engine = "auto",
    plugin: o.Plugin = None,
    device: o.Device = "auto",
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    version: o.Version = False,
) -> None:
    """Show what a model's answer rests on, for images or arrays.

    Writes for every input STEM.png to look at, STEM.json with scores and residual, STEM.npz with
    every array; for score propagation STEM.gif, with --signs STEM.signs.png, with --report
    STEM.html.
    """
    g.plugins(plugin)
    flags = g.recipe_flags(
        size,
        resize,
        mean,
        std,
        scale=scale,
        channels=channels,
        layout=layout,
        interpolation=interpolation,
    )
    options = g.method_options(
        option or [], receptive_field=receptive_field, prior=prior, ties=ties
    )
    asked = {
        "layer": layer,
        "layers": g.layers(layers),
        "ensemble": list(ensemble or []),
        "combine": combine,
        "combine_threshold": combine_threshold,
        "against": None if against is None else g.one_class(against),
        "output": output,
        "wrt": wrt or None,
        "engine": engine,
        "device": device,
        "threads": threads,
        **g.targets(target),
        **options,
    }
    if min_box != 1 and boxes is None:
        raise MethodError("--min-box leaves small boxes out; ask for boxes with --boxes")
    files = [*inputs, *([labels] if labels else []), model, *(ensemble or [])]
    for path in files:
        existing(path)
    hush()
    explainer = _explainer(model, method, labels, asked)
    truths = g.truths(truth, len(inputs))
    stems = written.stems(inputs, out, [*files, *([Path(preprocess)] if preprocess else [])])
    drawn = written.Drawn(cmap, report, boxes, min_box, signs)
    job = _Job(explainer, written.ready(out), preprocess, flags, max_pixels, drawn, quiet)
    _checked_cmap(cmap)
    done, failed = [], 0
    with progress(len(inputs) * (4 + 3 * report), quiet) as tell:
        for path, stem, true in zip(inputs, stems, truths, strict=True):
            try:
                done.append(job.do(path, stem, true, tell))
            except OnnxExplainError as error:
                if debug or len(inputs) == 1:
                    raise
                failed = max(failed, complain(error))
    if json:
        answer([summary for summary, _ in done])
    elif not quiet:
        print("\n".join(line for _, line in done))
    if failed:
        raise typer.Exit(failed)


def _explainer(model: Path, method: str, labels: Path | None, asked: dict[str, Any]) -> "Explainer":
    import onnxexplain
    from onnxexplain.photograph.labels import read_labels

    names = read_labels(labels) if labels else None
    return onnxexplain.Explainer(onnxexplain.load(model), method, labels=names, **asked)


def _checked_cmap(cmap: str | None) -> None:
    from onnxexplain.figures.plot import checked

    checked(cmap)


@dataclass(frozen=True)
class _Job:
    """What is the same for every input."""

    explainer: "Explainer"
    folder: Path
    preset: str | None
    flags: dict[str, Any]
    most: int
    drawn: written.Drawn
    quiet: bool

    def do(
        self, path: Path, stem: str, truth: int | str | None, tell: Callable[[str], None]
    ) -> tuple[dict[str, Any], str]:
        """Explain one input and write its files; return what to say of it, twice."""
        from onnxexplain.figures.view import View

        def told(what: str) -> None:
            tell(f"{path.name}: {what}")

        told("reading")
        given = g.read(self.explainer.model, path, self.preset, self.flags, self.most)
        disc = given.picture.disc if given.picture else None
        if disc and not disc.found and not self.quiet:
            warn(f"{path}: no retina's disc found; took the largest circle in the middle for it")
        told("explaining")
        try:
            e = self.explainer(given.feeds)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        classes = e.logits.shape[1] if e.logits.ndim > 1 else 1
        if e.labels is not None and len(e.labels) != classes:
            raise InputError(f"{len(e.labels)} labels do not fit the model's {classes} classes")
        true = g.true_class(truth, e.labels, classes)
        view = View(e, 0, given.picture, true)
        made = written.contents(view, given, self.drawn, told)
        told("writing")
        paths = written.write(self.folder, stem, made)
        return written.summary(e, given, paths), written.line(e, stem, self.folder, made)
