"""Measure explanations where one kind of lesion decides the grade: do they mark that kind?

`python -m models.dr.deciding models/dr640.onnx deciding.json` paints lone eyes (`dataset.py`) that
the network never saw, each of them twice: as it is, and with the deciding kind painted out while
all else stays. Where the grade that the network gives falls, that kind decided it, whatever the
recipe meant to happen, and the map of the grade should lie in its masks. `truth.py` asks by kind in
all eyes that show it; there a kind may lie beside others that make the grade already, and a map is
right to pass it by.

`density`, `pointing` and the masks are those of `truth.py`, for the pixels of that kind alone.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from models.dr.lesions import DECIDING
from models.dr.retina import Retina, retina
from models.dr.truth import FIRST, Map, measure, methods, ready, wider

LONE = FIRST + 500_000
PAIRS = [(kind, grade) for grade, kinds in DECIDING.items() for kind in kinds]

Pair = tuple[str, Retina, Retina]


def pairs(count: int, first: int = LONE) -> Iterator[Pair]:
    """Paint so many eyes for every kind that decides a grade, each with and without that kind."""
    for i in range(count):
        for kind, grade in PAIRS:
            seed = first + i
            yield kind, retina(seed, grade, sole=kind), retina(seed, grade, sole=kind, without=kind)


def compare(model: Path, maps: dict[str, Map], seen: Iterable[Pair]) -> list[dict[str, Any]]:
    """Grade every eye with and without its deciding kind, and measure every map of it."""
    session = onnxruntime.InferenceSession(model)
    (name,) = (given.name for given in session.get_inputs())

    def grade(eye: Retina) -> int:
        return int(session.run(None, {name: ready(eye.image)})[0].argmax())

    rows = []
    for kind, eye, without in seen:
        given, left = grade(eye), grade(without)
        facts = {"kind": kind, "grade": eye.grade, "given": given, "without": left}
        if left < given:
            mask = wider(eye.masks[kind])
            facts |= {way: measure(heat(ready(eye.image)), mask) for way, heat in maps.items()}
        rows.append(facts)
    return rows


def table(rows: list[dict[str, Any]], ways: Iterable[str]) -> dict[str, Any]:
    """Average by kind and grade, over the eyes whose grade fell; with 95 % bootstrap intervals."""
    found: dict[str, Any] = {}
    for kind, grade in PAIRS:
        own = [row for row in rows if (row["kind"], row["grade"]) == (kind, grade)]
        fell = [row for row in own if row["without"] < row["given"]]
        facts: dict[str, Any] = {
            "n": len(own),
            "right": sum(row["given"] == grade for row in own),
            "fell": len(fell),
        }
        for way in ways if fell else ():
            dense = np.array([row[way]["density"] for row in fell])
            drawn = np.random.default_rng(0).choice(dense, (2000, len(dense))).mean(1)
            facts[way] = {
                "area": round(float(np.mean([row[way]["area"] for row in fell])), 4),
                "density": round(float(dense.mean()), 2),
                "interval": np.percentile(drawn, (2.5, 97.5)).round(2).tolist(),
                "pointing": round(float(np.mean([row[way]["pointing"] for row in fell])), 3),
            }
        found[f"{kind} {grade}"] = facts
    return found


def show(found: dict[str, Any], way: str = "score-propagation") -> None:
    """Print what one method reaches."""
    print(f"{'kind, grade':26} eyes right  fell  density        interval  pointing")
    for name, facts in found.items():
        line = f"{name:26} {facts['n']:4} {facts['right']:5} {facts['fell']:5}"
        if way in facts:
            told = facts[way]
            line += f" {told['density']:8.1f} {told['interval']!s:>15} {told['pointing']:9.2f}"
        print(line)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file of the network")
    parser.add_argument("out", type=Path, help="the table, as JSON")
    parser.add_argument("--count", type=int, default=60, help="eyes for every kind and grade")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        every = methods(options.model, Path(folder))
        maps = {way: every[way] for way in ("score-propagation", "gradient", "random weights")}
        found = table(compare(options.model, maps, pairs(options.count)), maps)
    show(found)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
