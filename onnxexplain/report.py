"""One self-contained page that walks from the scores back to the pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxexplain.image import Picture
from onnxexplain.layers import Statistics
from onnxexplain.panels import Scale
from onnxexplain.pictures import bars, bytes_of, grid, jpeg, reduced, shown
from onnxexplain.plot import marked, speaks, spotted
from onnxexplain.view import Carried, View

Array = np.ndarray[Any, Any]

ROOM = 3_600_000
"""Bytes that all maps of the page may take, before they are written as text."""
PER_PIXEL = 0.75
"""Bytes that a pixel of a map takes, measured on maps of layers near the input."""
SIDES = (64, 224)
"""How many pixels a map of a layer is wide, at the least and at the most."""
LARGE = 320
"""How many pixels the maps of the input are wide."""
SLIDER = 640
"""How many pixels the map under the slider has on its longer side, at the most."""
MOST_FEATURES = 512
STEPS = 32
"""Into how many steps one deviation is divided under the slider."""

CAVEAT = (
    "A map shows what this network computed its score from, at this very input. It does not prove "
    "that what is marked is the cause in the world, that the prediction is right, or that another "
    "network would look at the same places."
)


def _walks(view: View) -> bool:
    """Whether there are shares to follow through the layers, and a picture to draw them over."""
    return view.e.shares_out and view.has_positions and view.over_input


def ahead(view: View) -> None:
    """Compute in one run everything that the page reads, class by class."""
    e = view.e
    if not _walks(view):
        return
    blocks = _blocks(view)
    whole = [name for name in (view.features(),) if name is not None] + blocks[-2:]
    e.fetch(layers=whole, maps=blocks, statistics=blocks, constants=view.whole)


def page(
    view: View, cmap: str | None = None, tell: Callable[[str], None] = lambda text: None
) -> str:
    """Return the page of one sample as HTML without any reference to anything outside it.

    ``tell`` is called with what is being drawn.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    tell("report: the scores")
    maker = Environment(
        loader=PackageLoader("onnxexplain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    maker.filters["number"] = _number
    parts = {
        "view": view,
        "e": view.e,
        "caveat": CAVEAT,
        "summary": _method(view),
        "scores": _scores(view),
        "ledger": _ledger(view),
        "photograph": None if view.photograph is None else jpeg(view.photograph),
        "features": list(_features(view)),
        "grids": list(_grids(view, cmap)),
        "layers": list(_layers(view, cmap, tell)),
        "blocks": len(view.blocks()) if _walks(view) else 0,
        "finals": list(_finals(view, cmap, tell)),
        "slider": _slider(view),
        "flat": _flat(view),
        "speaks": speaks(cmap),
        "preparation": view.image.record() if isinstance(view.image, Picture) else {},
    }
    return maker.get_template("report.html").render(parts)


def _number(value: float) -> str:
    """Write a number with five digits and a true minus sign."""
    return f"{value:.5g}".replace("-", "\u2212")


def _method(view: View) -> dict[str, Any]:
    from onnxexplain.methods import methods

    return next(m for m in methods() if m["name"] == view.e.method)


# ----- The scores -----


def _scores(view: View) -> list[dict[str, Any]]:
    """The scores of all classes, or of the strongest twelve and those explained."""
    order = [int(c) for c in np.argsort(-view.logits, kind="stable")]
    kept = {*order[:12], *(c for c in view.classes if c is not None)}
    if view.truth is not None:
        kept.add(view.truth)
    shown_order = sorted(kept) if len(kept) == len(order) else [c for c in order if c in kept]
    low = min(0.0, *(float(view.logits[c]) for c in kept))
    high = max(0.0, *(float(view.logits[c]) for c in kept))
    return [_score(view, c, low, max(high - low, 1e-12)) for c in shown_order]


def _score(view: View, c: int, low: float, span: float) -> dict[str, Any]:
    score = float(view.logits[c])
    said = [w for w, on in (("predicted", c == view.predicted), ("true", c == view.truth)) if on]
    return {
        "name": view.name(c),
        "score": score,
        "said": " and ".join(said),
        "left": (min(score, 0.0) - low) / span * 100,
        "width": abs(score) / span * 100,
        "zero": -low / span * 100,
        "sign": "for" if score >= 0 else "against",
    }


def _ledger(view: View) -> dict[str, Any] | None:
    """What the score of each class is made of."""
    e = view.e
    if e.constant is None:
        return None
    constants = view.pick(e.constant)
    shares = [view.pick(a).astype(np.float64) for a in e.attributions.values()]
    given = sum(a.reshape(len(a), -1).sum(-1) for a in shares)
    rows = [
        {
            "name": name,
            "score": score,
            "shares": float(share),
            "constant": float(constant),
            "rest": abs(rest),
        }
        for name, score, share, constant, rest in zip(
            view.names,
            view.scores,
            np.asarray(given),
            constants,
            view.residuals() or [],
            strict=True,
        )
    ]
    by_tensor = [
        {"name": name, "values": [float(v) for v in view.pick(value)]}
        for name, value in reversed(e.constants.items())
    ]
    return {"rows": rows, "by_tensor": by_tensor}


# ----- Features and single maps -----


def _features(view: View) -> Iterator[dict[str, Any]]:
    tensor = view.features() if view.e.shares_out else None
    if tensor is None:
        return
    scores = view.unit_scores(tensor)[:, :MOST_FEATURES]
    reach = max(float(np.abs(scores).max()), 1e-12)
    for name, values in zip(view.names, scores, strict=True):
        yield {
            "tensor": tensor,
            "name": name,
            "bars": bars(values, reach),
            "reach": reach,
            "sum": float(values.sum(dtype=np.float64)),
            "best": int(values.argmax()),
            "worst": int(values.argmin()),
            "count": len(values),
        }


def _grids(view: View, cmap: str | None) -> Iterator[dict[str, Any]]:
    """The feature maps of the last two layers one by one, for the leading class."""
    if not _walks(view) or view.features() is None:
        return
    for name in reversed(view.blocks()[-2:]):
        maps = view.pick(view.e.layers[name].score)[view.leading]
        scale = Scale.signed(list(maps), cmap)
        yield {"name": name, "maps": grid(maps, scale), "scale": _legend(scale)} | {
            "count": len(maps),
            "size": f"{maps.shape[2]} x {maps.shape[1]}",
        }


# ----- Layers -----


def _blocks(view: View) -> list[str]:
    """The layers drawn: all of them, or as many, evenly spaced, as the page has room for."""
    blocks = view.blocks()
    most = int(ROOM / (PER_PIXEL * SIDES[0] ** 2 * 2 * len(view.names)))
    if len(blocks) <= most:
        return blocks
    chosen = np.unique(np.linspace(0, len(blocks) - 1, max(most, 2)).round().astype(int))
    return [blocks[i] for i in chosen]


def _layers(view: View, cmap: str | None, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    if not _walks(view):
        return
    blocks = _blocks(view)
    fit = (ROOM / (PER_PIXEL * 2 * max(len(blocks), 1) * len(view.names))) ** 0.5
    side = int(np.clip(fit, *SIDES))
    tell("report: the layers")
    for name in reversed(blocks):
        held = view.carried(name)
        yield {
            "name": name,
            "shape": " x ".join(str(n) for n in view.e.shape_of(name)[1:]),
            "field": _field(view.e.layers[name].receptive_field),
            "score": _row(view, held.score, held.score_sum, f"score of {name}", cmap, side),
            "constant": _row(
                view, held.constant, held.constant_sum, f"constants of {name}", cmap, side
            ),
            "numbers": _numbers(view, held),
        }


def _field(field: Any) -> str:
    return " x ".join(f"{axis.size:g}" for axis in field) if field else ""


def _row(
    view: View, maps: Array, sums: Array, what: str, cmap: str | None, side: int
) -> dict[str, Any]:
    """One panel per class, on one scale."""
    small = [reduced(m, side) for m in maps]
    scale = Scale.signed(small, cmap)
    panels = [
        {
            "image": shown(picture, scale),
            "name": name,
            "sum": float(total),
            "alt": f"Map of the {what} for {name}, which sums to {_number(float(total))}.",
        }
        for picture, total, name in zip(small, sums, view.names, strict=True)
    ]
    return {"panels": panels, "scale": _legend(scale)}


def _legend(scale: Scale) -> dict[str, Any]:
    stops = scale.rgb(np.linspace(scale.low, scale.high, 17))
    colours = ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops)
    return {"low": scale.low, "high": scale.high, "gradient": colours}


def _numbers(view: View, held: Carried) -> list[dict[str, Any]]:
    """The authors' statistics: of the shares before channels are summed, of carried constants."""
    score = [view.pick(getattr(held.score_statistics, f)) for f in _FIELDS]
    constant = [getattr(held.constant_statistics, f) for f in _FIELDS]
    return [
        {
            "name": name,
            "score": [float(v[k]) for v in (held.score_sum, *score)],
            "constant": [float(v[k]) for v in (held.constant_sum, *constant)],
        }
        for k, name in enumerate(view.names)
    ]


_FIELDS = ("maximum", "minimum", "mean", "deviation")


# ----- At the input -----


def _finals(view: View, cmap: str | None, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The maps at the input: shares, all constants, and both together; or the one there is."""
    if not view.has_positions:
        return
    tell("report: the pixels")
    if view.cam:
        yield _overlays(view, cmap)
        return
    rows = [("The map", "every pixel's value", view.maps)]
    if view.whole:
        shares, constants = view.parts()
        rows = [
            ("What the pixels hold", "shares of the input", shares),
            (
                "What the constants of all layers hold",
                "constants, carried to the pixels",
                constants,
            ),
            ("Both together: the map of the score", "shares and constants", view.maps),
        ]
    for title, what, maps in rows:
        sums = maps.sum(axis=(1, 2), dtype=np.float64)
        carried = Statistics.of(maps, 1)
        columns = [sums, *(getattr(carried, f) for f in _FIELDS)]
        numbers = [
            {"name": name, "score": [float(v[k]) for v in columns], "constant": []}
            for k, name in enumerate(view.names)
        ]
        row = _row(view, maps, sums, what, cmap, LARGE)
        yield {"title": title, "what": what, "numbers": numbers, **row}


def _overlays(view: View, cmap: str | None) -> dict[str, Any]:
    scale = Scale.positive(list(view.maps), cmap)
    under = view.photograph
    panels = []
    for values, name in zip(view.maps, view.names, strict=True):
        colour = scale.rgb(values)
        if under is not None:
            colour = (0.5 * colour + 0.5 * under).round().astype(np.uint8)
        alt = f"Where {name} is seen, bright, over the photograph."
        panels.append({"image": jpeg(colour), "name": name, "sum": None, "alt": alt})
    what = f"the map of {view.e.layer}, over the photograph"
    return {
        "title": "Where the class is seen",
        "what": what,
        "numbers": [],
        "panels": panels,
        "scale": _legend(scale),
    }


@dataclass(frozen=True)
class Slider:
    """The leading class's map in whole numbers, for a threshold to be moved over."""

    name: str
    data: str
    width: int
    height: int
    unit: str
    step: int
    start: float
    most: float
    still: str
    photograph: str


def _slider(view: View) -> Slider | None:
    if view.photograph is None or not view.has_positions:
        return None
    k = view.leading
    values = view.maps[k]
    if view.cam:
        unit, whole, start, most, step = "of the greatest value", values.max(), 0.5, 1.0, 255
    else:
        unit, whole, start, most, step = "deviations", view.deviations()[k], 2.0, 6.0, STEPS
    ratio = values / max(float(whole), 1e-30)
    still = (spotted if view.cam else marked)(view.photograph, ratio > start)
    small = reduced(ratio, SLIDER)
    data = np.clip(np.floor(small * step), 0, 255).astype(np.uint8)
    return Slider(
        view.names[k],
        bytes_of(data.tobytes()),
        data.shape[1],
        data.shape[0],
        unit,
        step,
        start,
        most,
        jpeg(still),
        jpeg(view.photograph),
    )


def _flat(view: View) -> list[dict[str, Any]]:
    """Bars for an input without positions: a table, or a signal."""
    if view.has_positions:
        return []
    rows = []
    for tensor, values in view.flat():
        some = values[:, :MOST_FEATURES]
        reach = max(float(np.abs(some).max()), 1e-12)
        for name, row in zip(view.names, some, strict=True):
            said = f"{tensor}, {name}" if len(view.e.attributions) > 1 else name
            rows.append({"name": said, "bars": bars(row, reach), "reach": reach, "count": len(row)})
    return rows
