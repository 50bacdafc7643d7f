"""Measure explanations against the truth: do they mark the square?

`python -m models.boxes.localise models/boxes58k.onnx localise.json --figure localise.png` draws
pictures with a square that the network never saw, explains the score "with a square", and asks of
each map:

* `pointing`: is its maximum in the square's box, widened by 3 pixels (Zhang et al., "Top-down
  neural attention by excitation backprop", 2016)? A plateau's maximum is its middle;
* `cell`: does the position of the last maps that holds this maximum touch the box? A coarse map can
  say no more than that;
* `share`: which share of the positive map lies in the box, beside the box's share of the `area`.

The maps of `gradient` are taken absolute. `best of the grid` is the square itself in place of a
map, as coarse as the last maps: what the resolution alone costs.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import onnxexplain as ox
from models.boxes.picture import CROP, TEST, Box, Picture, batch, middle, middle_box, picture
from models.draft import wilson

FIRST = TEST + 10_000  # no picture from here on trained, chose or examined a network
COUNT = 300
WIDER = 3
BEST = "best of the grid"
METHODS = (
    "cam",
    "grad-cam",
    "guided-grad-cam",
    "crm",
    "cnn-fixations",
    "score-propagation",
    "gradient",
)

Map = Callable[[np.ndarray], np.ndarray]


def pictures(count: int, first: int = FIRST) -> Iterator[Picture]:
    """Draw pictures that hold a square."""
    for seed in range(first, first + count):
        yield picture(seed, label=1)


def wider(box: Box) -> Box:
    """Add three pixels on each side, where there are as many."""
    x0, y0, x1, y1 = box
    return max(0, x0 - WIDER), max(0, y0 - WIDER), min(CROP, x1 + WIDER), min(CROP, y1 + WIDER)


def measure(heat: np.ndarray, box: Box, cell: int) -> dict[str, float]:
    """Hold a map [224, 224] against the square's box, whose network has cells of so many pixels."""
    x0, y0, x1, y1 = wider(box)
    rise = np.maximum(heat, 0)
    y, x = peak(heat)
    left, top = x // cell * cell, y // cell * cell
    return {
        "pointing": float(x0 <= x < x1 and y0 <= y < y1),
        "cell": float(
            left < box[2] and left + cell > box[0] and top < box[3] and top + cell > box[1]
        ),
        "share": float(rise[y0:y1, x0:x1].sum() / (rise.sum() + 1e-12)),
        "area": (x1 - x0) * (y1 - y0) / CROP**2,
    }


def peak(heat: np.ndarray) -> tuple[int, int]:
    """Return row and column of the maximum; of several, of the one nearest to their middle."""
    highest = np.argwhere(heat == heat.max())
    apart = np.abs(highest - highest.mean(0)).sum(1)
    row, column = highest[apart.argmin()]
    return int(row), int(column)


def explained(model: Path | ox.Model, method: str) -> Map:
    """Return the method's map of the score "with a square"."""
    explainer = ox.Explainer(model, method, threads=1)
    sign = np.abs if method == "gradient" else np.asarray
    return lambda x: sign(np.asarray(explainer(x, target=1).heatmap()[0], np.float32))


def cell_of(model: Path | ox.Model) -> int:
    """Return how many pixels of the input lie between two positions of the last maps."""
    x = np.zeros((1, 3, CROP, CROP), np.float32)
    (maps,) = ox.explain(model, x, method="cam").attributions.values()
    return CROP // maps.shape[-1]


def compare(
    maps: dict[str, Map], count: int, cell: int, first: int = FIRST
) -> dict[str, list[dict[str, float]]]:
    """Measure each map of each picture."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (*maps, BEST)}
    for drawn in pictures(count, first):
        x, _ = batch([drawn])
        for name, explain in maps.items():
            rows[name].append(measure(explain(x), middle_box(drawn.box), cell))
        rows[BEST].append(measure(best(drawn, cell), middle_box(drawn.box), cell))
    return rows


def best(drawn: Picture, cell: int) -> np.ndarray:
    """Return the map of the square itself, as coarse as the last maps and resized like a CAM."""
    n = CROP // cell
    covered = middle(drawn.mask).reshape(n, cell, n, cell).mean((1, 3), dtype=np.float32)
    return np.asarray(Image.fromarray(covered).resize((CROP, CROP), Image.Resampling.BILINEAR))


def table(rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Average over pictures, with the 95 % interval of the pointing."""
    found: dict[str, Any] = {}
    for name, own in rows.items():
        hits = sum(row["pointing"] for row in own)
        found[name] = {key: round(float(np.mean([r[key] for r in own])), 4) for key in own[0]}
        found[name]["interval"] = [round(v, 4) for v in wilson(int(hits), len(own))]
        found[name]["n"] = len(own)
    return found


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'method':20} pointing  interval      cell  share   area")
    for name, facts in found.items():
        low, high = facts["interval"]
        print(
            f"{name:20} {facts['pointing']:8.3f}  {low:.3f}..{high:.3f} {facts['cell']:6.3f} "
            f"{facts['share']:6.3f} {facts['area']:6.3f}"
        )


# ----- Figure -----


def figure(maps: dict[str, Map], found: dict[str, Any], path: Path, count: int = 6) -> None:
    """Draw a row for each method: its maps, their maxima and the squares' boxes."""
    from matplotlib import pyplot as plt

    size = (1.9 * count, 2.15 * len(maps))
    page, axes = plt.subplots(len(maps), count, figsize=size, layout="constrained")
    for row, (name, explain) in zip(np.atleast_2d(axes), maps.items(), strict=True):
        for axis, drawn in zip(row, pictures(count), strict=True):
            _panel(axis, drawn, explain)
        facts = found[name]
        said = (
            f"{name}: maximum in the square in {facts['pointing']:.1%}, "
            f"{facts['share']:.0%} of the positive map on {facts['area']:.1%} of the area"
        )
        title = row[0].text(0, 1.04, said, fontsize=9, transform=row[0].transAxes)
        title.set_in_layout(False)  # it is wider than its panel
    page.get_layout_engine().set(hspace=0.13, rect=(0, 0, 1, 0.98))
    page.savefig(path, dpi=80)


def _panel(axis: Any, drawn: Picture, explain: Map) -> None:
    from matplotlib.patches import Rectangle

    x, _ = batch([drawn])
    heat = explain(x)
    # Few pixels hold most of a fine map: a little below the maximum the others show, too.
    limit = np.percentile(np.abs(heat), 99.8) or 1.0
    axis.imshow(x[0, 0], cmap="gray", vmax=1.6)
    axis.imshow(heat, cmap="seismic", vmin=-limit, vmax=limit, alpha=0.6)
    x0, y0, x1, y1 = middle_box(drawn.box)
    corner = (x0 - 0.5, y0 - 0.5)
    axis.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, color="lime"))
    row, column = peak(heat)
    axis.plot(column, row, "x", color="black", markersize=7)
    axis.set(xticks=[], yticks=[])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file that export.py wrote")
    parser.add_argument("out", type=Path, help="the table, as JSON")
    parser.add_argument("--figure", type=Path, help="draw some maps of each method")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("-m", "--method", action="append", help="one of the methods; all if none")
    options = parser.parse_args()
    maps = {name: explained(options.model, name) for name in options.method or METHODS}
    found = table(compare(maps, options.count, cell_of(options.model)))
    show(found)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.figure:
        figure(maps, found, options.figure)


if __name__ == "__main__":
    main()
