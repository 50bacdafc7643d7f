"""``dr-network``: the diabetic-retinopathy network as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from onnxexplain.cli import options as o
from onnxexplain.cli.console import answer, existing, told


@told
def dr_network(
    weights: Annotated[
        Path,
        typer.Argument(
            help="Weights: .npz, .safetensors, or a torch checkpoint.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("dr.onnx"),
    fold: Annotated[
        bool, typer.Option("--fold", help="Merge the normalisations into the convolutions.")
    ] = False,
    device: o.Device = "auto",
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    version: o.Version = False,
) -> None:
    """Write the diabetic-retinopathy network of de la Torre, Valls and Puig from its weights."""
    import onnxexplain
    from onnxexplain.errors import InputError

    existing(weights)
    if out.exists() and out.samefile(weights):
        raise InputError(f"{out}: these are the weights; give another file with -o")
    path = onnxexplain.dr_network(weights, out, fold=fold)
    model = onnxexplain.load(path)
    if json:
        answer({"file": str(path), "sha256": model.sha256, "bytes": path.stat().st_size})
    elif not quiet:
        print(f"{path}: {path.stat().st_size:,} bytes, sha256 {model.sha256[:16]}...")
