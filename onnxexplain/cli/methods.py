"""``methods``: what there is to explain with."""

from typing import Any

from onnxexplain.cli import options as o
from onnxexplain.cli.console import answer, told


@told
def methods(
    device: o.Device = "auto",
    threads: o.Threads = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    version: o.Version = False,
) -> None:
    """List the methods, their options and where they were published."""
    import onnxexplain

    records = onnxexplain.methods()
    if json:
        answer(records)
    elif not quiet:
        _show(records)


def _show(records: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    table.add_column("method", no_wrap=True)
    table.add_column("what it shows", ratio=3)
    table.add_column("adds up", no_wrap=True)
    table.add_column("options", ratio=2)
    for record in records:
        shown = ", ".join(f"{k}={_plain(v)}" for k, v in record["options"].items())
        what = Text(f"{record['summary']}\n").append(record["reference"], "dim")
        sums = "yes" if record["shares"] else "no"
        table.add_row(Text(record["name"], "bold"), what, sums, Text(shown))
    Console().print(table)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
