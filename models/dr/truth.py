"""Measure explanations against the truth: do they mark the lesions that make the grade?

`python -m models.dr.truth models/dr640.onnx truth.json --figure truth.png` paints retinas that the
network never saw and explains the grade it gives them. Three measures go by the masks of the
lesions, widened by `WIDER` pixels because a network also looks at a lesion's rim:

* `density`: the share of the positive score that lies in the masks over their share of the area;
  1 is chance;
* `pointing`: whether the positive score, after a Gaussian of `SMOOTH` pixels, is highest in them
  (Zhang et al., "Top-down neural attention by excitation backprop", 2016); `pointing_signed` blurs
  the negative score with it, which cancels the positive beside it where a lesion is a few pixels;
* `two_sigma`: the share of the map's pixels beyond two standard deviations that lie in them.

The same is asked of other methods, and of score propagation on a network with random weights, which
knows nothing. `area` is the masks' share of the image: what pointing and two_sigma reach by chance.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

import onnxexplain as ox
from models.dr.lesions import KINDS
from models.dr.network import Network, normalise, save
from models.dr.retina import Retina, retina

FIRST = 2_000_000  # seeds from here on neither trained nor chose any weights
WIDER = 5
SMOOTH = 6.0
MEASURES = ("density", "pointing", "two_sigma")

Map = Callable[[np.ndarray], np.ndarray]


def measure(heat: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Hold a map against a mask."""
    rise = np.maximum(heat, 0)
    risen, whole = (ndimage.gaussian_filter(part, SMOOTH) for part in (rise, heat))
    beyond = heat > 2 * heat.std()
    return {
        "area": float(mask.mean()),
        "density": density(rise, mask),
        "pointing": float(mask.flat[risen.argmax()]),
        "pointing_signed": float(mask.flat[whole.argmax()]),
        "two_sigma": float(mask[beyond].mean()) if beyond.any() else 0.0,
    }


def density(rise: np.ndarray, mask: np.ndarray) -> float:
    """Divide the share of a map that lies in a mask by the mask's share of the area."""
    return float(rise[mask].sum() / (rise.sum() + 1e-12) / mask.mean())


def wider(mask: np.ndarray) -> np.ndarray:
    """Add every pixel that is within `WIDER` pixels of the mask."""
    return np.asarray(ndimage.distance_transform_edt(~mask) <= WIDER)


def ready(image: np.ndarray) -> np.ndarray:
    """Make a painted retina what the network takes."""
    return np.ascontiguousarray(normalise(image[None]).numpy())


# ----- Methods -----


def methods(model: Path, folder: Path) -> dict[str, Map]:
    """Return every map under comparison, each a function of the network's input."""
    torch.manual_seed(0)
    save(Network(), folder / "random.npz")
    chance = ox.dr_network(folder / "random.npz", folder / "random.onnx")
    gradient = mapped(model, "gradient")
    return {
        "score-propagation": mapped(model, "score-propagation"),
        "gradient": lambda x: np.abs(gradient(x)),
        "input-x-gradient": mapped(model, "input-x-gradient"),
        "grad-cam": mapped(model, "grad-cam"),
        "random weights": mapped(chance, "score-propagation"),
    }


def mapped(model: Path, method: str) -> Map:
    """Explain the grade that the model gives."""
    explainer = ox.Explainer(model, method, threads=1)
    return lambda x: np.asarray(explainer(x).heatmap()[0], np.float32)


# ----- Retinas -----


def eyes(count: int, first: int = FIRST) -> Iterator[Retina]:
    """Paint retinas of the grades 1 to 4 in turn; grade 0 has no lesions to find."""
    for i in range(count):
        yield retina(first + i, 1 + i % 4)


def compare(maps: dict[str, Map], seen: Iterable[Retina]) -> list[dict[str, Any]]:
    """Measure every map of every retina."""
    rows = []
    for eye in seen:
        x = ready(eye.image)
        shown = {kind: wider(mask) for kind, mask in eye.masks.items() if mask.any()}
        whole = np.any(list(shown.values()), 0)
        for name, explain in maps.items():
            heat = explain(x)
            kinds = {kind: density(np.maximum(heat, 0), m) for kind, m in shown.items()}
            rows.append(
                {"grade": eye.grade, "method": name, **measure(heat, whole), "kinds": kinds}
            )
    return rows


# ----- Tables -----


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Average over retinas: by method and grade, over all grades, and by kind of lesion."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        grades: dict[str, list[dict[str, Any]]] = {
            str(grade): [row for row in own if row["grade"] == grade] for grade in range(1, 5)
        }
        grades["all"] = own
        found[name] = {key: averages(some) for key, some in grades.items() if some}
        found[name]["kinds"] = {
            kind: round(float(np.mean(values)), 2)
            for kind in KINDS
            if (values := [row["kinds"][kind] for row in own if kind in row["kinds"]])
        }
    return found


def averages(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Average each measure, with the 95 % bootstrap interval of the density."""
    keys = ("area", *MEASURES, "pointing_signed")
    found: dict[str, Any] = {
        key: round(float(np.mean([row[key] for row in rows])), 3) for key in keys
    }
    values = np.array([row["density"] for row in rows])
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    found["interval"] = [round(float(v), 2) for v in np.percentile(drawn, (2.5, 97.5))]
    return found | {"n": len(rows)}


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'method':20} grade  area  density        interval  pointing  two_sigma")
    for name, grades in found.items():
        for grade, facts in grades.items():
            if grade != "kinds":
                print(
                    f"{name:20} {grade:>5} {facts['area']:5.3f} {facts['density']:8.2f} "
                    f"{facts['interval']!s:>15} {facts['pointing']:9.2f} {facts['two_sigma']:10.2f}"
                )


# ----- Figure -----


def figure(found: dict[str, Any], explain: Map, path: Path) -> None:
    """Draw bars for each grade and method, and one retina of each grade with map and masks."""
    from matplotlib import pyplot as plt

    page, axes = plt.subplots(5, 3, figsize=(10, 16), layout="constrained")
    width = 0.8 / len(found)
    for axis, key in zip(axes[0], MEASURES, strict=True):
        for i, (name, grades) in enumerate(found.items()):
            heights = [grades[str(grade)][key] for grade in range(1, 5)]
            axis.bar(np.arange(1, 5) + (i - 2) * width, heights, width, label=name)
        axis.set(title=key.replace("_", " "), xlabel="grade")
    axes[0, 0].set_yscale("log")
    axes[0, 0].axhline(1, color="black", linewidth=0.8)
    axes[0, 0].legend(fontsize=7)
    for row, eye in zip(axes[1:], eyes(4), strict=True):
        heat = ndimage.gaussian_filter(explain(ready(eye.image)), 1)
        limit = np.percentile(np.abs(heat), 99.7)
        row[0].imshow(eye.image)
        row[1].imshow(heat, cmap="seismic", vmin=-limit, vmax=limit)
        row[2].imshow(wider(np.any(list(eye.masks.values()), 0)), cmap="gray")
        row[0].set_ylabel(f"grade {eye.grade}")
    for axis in axes[1:].flat:
        axis.set(xticks=[], yticks=[])
    page.savefig(path, dpi=110)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file of the network")
    parser.add_argument("out", type=Path, help="the table, as JSON")
    parser.add_argument("--figure", type=Path, help="draw the bars and some maps")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        maps = methods(options.model, Path(folder))
        found = table(compare(maps, eyes(options.count)))
        show(found)
        options.out.write_text(json.dumps(found, indent=1))
        if options.figure:
            figure(found, maps["score-propagation"], options.figure)


if __name__ == "__main__":
    main()
