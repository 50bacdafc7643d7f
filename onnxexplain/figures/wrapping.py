"""Text in lines of a given width."""

import textwrap
from collections.abc import Iterator


def wrapped(text: str, width: float, font: float) -> str:
    """Break lines where they would leave ``width`` pixels; DejaVu Sans is 0.6 em wide or less."""
    most = max(int(width / (0.6 * font)), 8)
    lines = [" ".join(_pieces(line, most)) for line in text.splitlines()]
    return "\n".join(part for line in lines for part in (textwrap.wrap(line, most) or [""]))


def _pieces(line: str, most: int) -> Iterator[str]:
    """Yield the words of a line; one that is too long, such as a tensor's name, in its parts."""
    for word in line.split(" "):
        rest = word
        while len(rest) > most:
            cut = max(rest.rfind(mark, 1, most) for mark in "/._") + 1
            yield rest[: cut or most]
            rest = rest[cut or most :]
        yield rest
