"""The command line: one file per command.

Nothing here imports NumPy, onnx or ONNX Runtime before a command needs them, so that help answers
at once.
"""

import sys
from typing import Annotated, NoReturn

import typer

from onnxexplain.cli.console import Failure, one_line
from onnxexplain.cli.demo import demo
from onnxexplain.cli.dr_network import dr_network
from onnxexplain.cli.explain import explain
from onnxexplain.cli.inspect import inspect
from onnxexplain.cli.methods import methods
from onnxexplain.cli.options import show_version
from onnxexplain.cli.prototype import prototype

app = typer.Typer(
    name="onnxexplain",
    help="Explains any ONNX model with nothing but the model file.",
    epilog="Start with:  onnxexplain demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _everything(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


app.command(epilog="Example:  onnxexplain explain model.onnx cat.jpg -t all --report")(explain)
app.command(epilog="Example:  onnxexplain inspect model.onnx")(inspect)
app.command(epilog="Example:  onnxexplain methods --json")(methods)
app.command(epilog="Example:  onnxexplain prototype model.onnx -t 3 --steps 500")(prototype)
app.command(epilog="Example:  onnxexplain demo -o somewhere")(demo)
app.command("dr-network", epilog="Example:  onnxexplain dr-network weights.npz -o dr.onnx")(
    dr_network
)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 or 2."""
    try:
        code = app(arguments, standalone_mode=False)
    except Failure as failure:
        return failure.code
    except (KeyboardInterrupt, typer.Abort):
        print("onnxexplain: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        # Typer's own complaints about options and arguments; what it is built on has changed
        # before, so they are known by what they can do.
        if not hasattr(error, "format_message"):
            raise
        return _usage(error)
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> int:
    message = error.format_message()  # type: ignore[attr-defined]
    path = getattr(getattr(error, "ctx", None), "command_path", None) or "onnxexplain"
    if message:  # without one it was the help, asked for by giving nothing
        print(one_line(f"{path}: {message} See {path} --help."), file=sys.stderr)
    return 2 if message else 0


def main() -> NoReturn:
    """Run the command line and leave."""
    sys.exit(run())
