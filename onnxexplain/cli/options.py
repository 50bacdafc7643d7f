"""The options, each described once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from onnxexplain.photograph.recipe import PRESETS


def show_version(value: bool) -> None:
    """Print the version and leave."""
    if value:
        from onnxexplain import __version__

        print(f"onnxexplain {__version__}")
        raise typer.Exit(0)


# ----- Of every command -----

Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.", show_default=True)
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="How many threads to compute with; by default one per core."),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Version = Annotated[
    bool,
    typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
]

Plugin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        help="A Python module that registers operators; repeat it for several.",
        show_default=False,
    ),
]

# ----- What is explained -----

Model = Annotated[Path, typer.Argument(help="The ONNX model.", show_default=False)]
SetMetadata = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Write a property into the file: labels=JSON, preprocess=JSON, or any other; "
        "@FILE for a file's text. Repeat it for several.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[Path],
    typer.Argument(help="Images, or arrays in .npy or .npz files.", show_default=False),
]
Method = Annotated[
    str, typer.Option("--method", "-m", help="How to explain; `onnxexplain methods` lists them.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        help="A class as number or label, `top`, `all`, or the `sum` of them; repeatable.",
        show_default="top",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(help="A class to contrast the target with."),
]
Output = Annotated[
    str | None,
    typer.Option(help="The tensor that holds the scores, by default the last logits."),
]
Wrt = Annotated[
    list[str] | None,
    typer.Option(help="Tensors to explain by, instead of the float inputs; repeatable."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The folder to write into.")]
Layer = Annotated[
    str | None,
    typer.Option(help="Where a CAM looks; `all` draws the map of every layer on one sheet."),
]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="MODEL",
        help="Another model of the same input and classes, to be averaged with; repeatable: "
        "--ensemble b.onnx --ensemble c.onnx.",
    ),
]
Combine = Annotated[
    Literal["mean", "sum"],
    typer.Option(help="Ensembles: the mean of the maps, or the sum of each over its maximum."),
]
CombineThreshold = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="With --combine sum: leave out what is below this part of a map's maximum, say 0.2.",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(help="More tensors to save, or `all`; repeat it for several."),
]
ReceptiveField = Annotated[
    Literal["true", "nominal"] | None,
    typer.Option(help="Score propagation: with pools counted, or as the papers name them."),
]
Prior = Annotated[
    Literal["gauss", "flat", "delta"] | None,
    typer.Option(help="Score propagation: how a constant spreads over its field."),
]
Ties = Annotated[
    Literal["first", "share"] | None,
    typer.Option(help="Which of equal elements a max pool hands its score to."),
]
MethodOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="Any option of the method; repeatable."),
]
Truth = Annotated[
    list[str] | None,
    typer.Option(help="The true class, shown beside the predicted one; one, or one per input."),
]
Boxes = Annotated[
    float | None,
    typer.Option(
        metavar="PART",
        min=0,
        max=1,
        help="Draw boxes around what reaches this part of the map's maximum, such as 0.4.",
    ),
]
MinBox = Annotated[
    int,
    typer.Option(
        metavar="PIXELS",
        min=0,
        help="Boxes: leave out what is narrower or lower than this, such as 25.",
    ),
]
Signs = Annotated[
    bool,
    typer.Option(
        "--signs", help="Write STEM.signs.png too: what raises the score and what lowers it, apart."
    ),
]
Report = Annotated[bool, typer.Option("--report", help="Write a self-contained HTML page too.")]
Cmap = Annotated[
    str | None,
    typer.Option(help="Another matplotlib colour map: PuOr and cividis suit colour-blind readers."),
]
Engine = Annotated[
    Literal["auto", "compiled", "eager"],
    typer.Option(help="The way back as ONNX nodes, or on arrays."),
]

# ----- How a photograph becomes an input -----

_PANEL = "Photographs"

Preprocess = Annotated[
    str | None,
    typer.Option(
        help=f"A preset ({', '.join(PRESETS)}) or a JSON file.",
        rich_help_panel=_PANEL,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="The size that the model takes.", rich_help_panel=_PANEL),
]
Resize = Annotated[
    bool | None,
    typer.Option(
        "--resize/--crop",
        help="Resize both sides, or the short one and keep the middle.",
        show_default="crop",
        rich_help_panel=_PANEL,
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        help="The value of a white pixel: 1, or 255 for Caffe's models.", rich_help_panel=_PANEL
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Taken off, in that scale and in the order of --channels.",
        rich_help_panel=_PANEL,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Divided by, likewise.", rich_help_panel=_PANEL),
]
Channels = Annotated[
    Literal["rgb", "bgr"] | None,
    typer.Option(help="The order of the colours.", rich_help_panel=_PANEL),
]
Layout = Annotated[
    Literal["NCHW", "NHWC"] | None,
    typer.Option(
        help="The order of the axes, if the model leaves it open.", rich_help_panel=_PANEL
    ),
]
Interpolation = Annotated[
    Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] | None,
    typer.Option(help="How to resize.", show_default="bilinear", rich_help_panel=_PANEL),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="The classes' names: one per line, synset_words.txt, or JSON.", rich_help_panel=_PANEL
    ),
]
MaxPixels = Annotated[
    int, typer.Option(min=1, help="Open no larger photograph.", rich_help_panel=_PANEL)
]
