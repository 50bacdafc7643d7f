"""``prototype``: the image that a model takes most for a class."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onnxexplain.cli import given as g
from onnxexplain.cli import options as o
from onnxexplain.cli import written
from onnxexplain.cli.console import answer, existing, hush, progress, to_json, told
from onnxexplain.errors import InputError, MethodError

if TYPE_CHECKING:
    from onnxexplain import Model, Prototype
    from onnxexplain.prototypes.canvas import Canvas

STEM = "prototype"
MOST_PIXELS = 50_000_000

_WORDS = ("zeros", "grey", "mean", "noise")

Classes = Annotated[
    list[str],
    typer.Option(
        "--target", "-t", help="A class as number or label, or `all`; repeat it for several."
    ),
]
Start = Annotated[
    str,
    typer.Option(
        metavar="WORD|FILE",
        help="`zeros`, `grey`, `mean`, `noise`, or an image or array to move towards the class.",
    ),
]
MeanImage = Annotated[
    Path | None,
    typer.Option(help="An image to stay near, or an array of one per class."),
]
MeanWeight = Annotated[float, typer.Option(help="How much that counts.")]
L2 = Annotated[float, typer.Option("--l2", help="How much the image's length counts.")]
Tv = Annotated[float, typer.Option("--tv", help="How much its total variation counts.")]
Objective = Annotated[
    Literal["cross-entropy", "logit"], typer.Option(help="What is to fall, or to grow.")
]
Steps = Annotated[int, typer.Option(help="How many steps.")]
Rate = Annotated[float, typer.Option(help="How long they are, where black to white is 1.")]
Jitter = Annotated[int, typer.Option(help="Shift by up to so many pixels before each step.")]
Blur = Annotated[float, typer.Option(help="Blur by so many pixels after every --blur-every steps.")]
BlurEvery = Annotated[int, typer.Option(help="How often to blur.")]
Bounds = Annotated[
    str | None,
    typer.Option(metavar="LOW,HIGH", help="The least and the greatest value: 0,1 is paintable."),
]
Frames = Annotated[int, typer.Option(help="Pictures in the animation; 0 for none.")]
Seed = Annotated[int, typer.Option(help="Repeats what is random.")]


@told
def prototype(
    model: o.Model,
    target: Classes,
    start: Start = "zeros",
    mean_image: MeanImage = None,
    mean_weight: MeanWeight = 0.1,
    l2: L2 = 0.0,
    tv: Tv = 0.0,
    objective: Objective = "cross-entropy",
    steps: Steps = 1000,
    rate: Rate = 0.01,
    jitter: Jitter = 0,
    blur: Blur = 0.0,
    blur_every: BlurEvery = 4,
    bounds: Bounds = None,
    frames: Frames = 24,
    seed: Seed = 0,
    out: o.Out = Path("prototypes"),
    output: o.Output = None,
    cmap: o.Cmap = None,
    preprocess: o.Preprocess = None,
    size: o.Size = None,
    scale: o.Scale = None,
    mean: o.Mean = None,
    std: o.Std = None,
    channels: o.Channels = None,
    layout: o.Layout = None,
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
    """Paint the image that a model takes most for a class.

    Writes prototype.png to look at, prototype.loss.png, prototype.gif of the way there,
    prototype.npz with every array and prototype.json with the settings.
    """
    g.plugins(plugin)
    flags = g.recipe_flags(size, None, mean, std, scale=scale, channels=channels, layout=layout)
    read = [existing(Path(start))] if start not in _WORDS else []
    read += [existing(path) for path in (mean_image, labels, model) if path is not None]
    options = {
        "mean_weight": mean_weight,
        "l2": l2,
        "tv": tv,
        "objective": objective,
        "steps": steps,
        "rate": rate,
        "jitter": jitter,
        "blur": blur,
        "blur_every": blur_every,
        "bounds": _pair(bounds),
        "frames": frames,
        "seed": seed,
        "output": output,
        "engine": engine,
        "device": device,
        "threads": threads,
        "preprocess": _recipe(preprocess, flags),
    }
    hush()
    _checked(cmap)
    recipes = [Path(preprocess)] if preprocess else []
    (stem,) = written.stems([Path(STEM)], out, [*read, *recipes])
    written.ready(out)
    with progress(_reports(steps) + 2, quiet) as tell:
        painted = _painted(model, target, start, mean_image, labels, max_pixels, options, tell)
        tell("drawing")
        made = painted.contents(cmap)
        given = {"start": start, "mean_image": None if mean_image is None else str(mean_image)}
        made[".json"] = to_json(painted.record() | {"given": given}).encode()
        tell("writing")
        paths = written.write(out, stem, made)
    if json:
        answer({k: v for k, v in painted.record().items() if k in _SHORT} | {"files": paths})
    elif not quiet:
        print(f"{stem}: {_line(painted)} -> {out / stem}{{{','.join(sorted(made))}}}")


_SHORT = ("method", "target", "label", "output", "logits", "probability", "loss", "seconds")


def _painted(
    path: Path,
    target: list[str],
    start: str,
    mean_image: Path | None,
    labels: Path | None,
    most: int,
    options: dict[str, Any],
    tell: Callable[[str], None],
) -> "Prototype":
    """Read what is given, and paint."""
    import onnxexplain
    from onnxexplain.photograph.labels import read_labels
    from onnxexplain.prototypes.canvas import canvas

    model = onnxexplain.load(path)
    begun: Any = start
    toward = None
    if start not in _WORDS or mean_image is not None:
        sheet = canvas(model, options["preprocess"])
        begun = start if start in _WORDS else _image(model, sheet, Path(start), most)
        toward = None if mean_image is None else _image(model, sheet, mean_image, most)
    if "all" in target and len(target) > 1:
        raise MethodError("-t all says it all: leave the other targets out")
    targets = "all" if "all" in target else [g.one_class(text) for text in target]

    def step(now: int, steps: int, loss: float) -> None:
        tell(f"step {now:,} of {steps:,}: loss {loss:.4g}")

    names = read_labels(labels) if labels else None
    return onnxexplain.prototype(
        model, targets, begun, mean=toward, labels=names, progress=step, **options
    )


def _image(model: "Model", sheet: "Canvas", path: Path, most: int) -> Any:
    """Read an image as the model takes it, or the array of a file."""
    from dataclasses import replace

    from onnxexplain.photograph.image import prepare, read_photo

    if path.suffix.lower() in (".npy", ".npz"):
        arrays = g.read(model, path, None, {}, most).feeds
        for name in (sheet.name, "means", "mean"):
            if name in arrays:
                return arrays[name]
        raise InputError(f"{path}: holds {', '.join(arrays)}; name one of them `{sheet.name}`")
    if sheet.sizes is None:
        raise InputError(f"{path}: `{sheet.name}` takes no pictures; give an .npy file")
    picture = prepare(read_photo(path, most), replace(sheet.recipe, size=sheet.sizes))
    return picture.values.reshape(1, *sheet.shape)


# ----- What is said -----


def _recipe(preset: str | None, flags: dict[str, Any]) -> dict[str, Any] | str | None:
    from onnxexplain.photograph.recipe import named

    if preset is None:
        return flags or None
    return {**named(preset), **flags} if flags else preset


def _pair(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise MethodError(f"--bounds {text}: give the least and the greatest, 0,1") from error
    return low, high


def _checked(cmap: str | None) -> None:
    from onnxexplain.figures.plot import checked

    checked(cmap)


def _reports(steps: int) -> int:
    from onnxexplain.prototypes.descent import reports

    return reports(steps)


def _line(p: "Prototype") -> str:
    """Say in a few words what came out."""
    loss = f"loss {p.loss[0]:.3g} to {p.loss[-1]:.3g}"
    own = p.probabilities[range(len(p.target)), p.target]
    if len(p.target) == 1:
        return f"{p.names[0]}, probability {own[0]:.4f}, {loss}"
    right = int((p.probabilities.argmax(axis=1) == p.target).sum())
    return f"{right} of {len(p.target)} taken for their class, {loss}"
