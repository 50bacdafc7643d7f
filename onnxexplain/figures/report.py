"""One self-contained page that walks from the scores back to the pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxexplain.figures import strips
from onnxexplain.figures.pictures import bars, bytes_of, jpeg, reduced
from onnxexplain.figures.plot import marked, placeless_figure, png, speaks, spotted
from onnxexplain.figures.view import View
from onnxexplain.photograph.image import Picture

Array = np.ndarray[Any, Any]

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


def ahead(view: View) -> None:
    """Compute in one run everything that the page reads, class by class."""
    e = view.e
    if not strips.walks(view):
        return
    blocks = strips.drawn(view)
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
        loader=PackageLoader("onnxexplain.figures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    maker.filters["number"] = strips.number
    parts = {
        "view": view,
        "e": view.e,
        "caveat": CAVEAT,
        "summary": _method(view),
        "scores": _scores(view),
        "ledger": _ledger(view),
        "photograph": None if view.photograph is None else jpeg(view.photograph),
        "features": list(_features(view)),
        "grids": list(strips.grids(view, cmap)),
        "layers": list(strips.layers(view, cmap, tell)),
        "blocks": len(view.blocks()) if strips.walks(view) else 0,
        "finals": list(strips.finals(view, cmap, tell)),
        "slider": _slider(view),
        "flat": _flat(view),
        "figure": _figure(view, cmap),
        "speaks": speaks(cmap),
        "place": _place(view),
        "preparation": view.image.record() if isinstance(view.image, Picture) else {},
    }
    return maker.get_template("report.html").render(parts)


def _place(view: View) -> str:
    """Say what the score is shared out over."""
    if set(view.e.attributions) <= set(view.e.inputs):
        return "pixels" if view.has_positions else "input"
    return f"tensor {view.first}"


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
    predicted = c == view.predicted and len(view.logits) > 1
    said = [w for w, on in (("predicted", predicted), ("true", c == view.truth)) if on]
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


# ----- At the input -----


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
    if view.smooth:
        unit, whole, start, most, step = "of the greatest value", values.max(), 0.5, 1.0, 255
    else:
        unit, whole, start, most, step = "deviations", view.deviations()[k], 2.0, 6.0, STEPS
    ratio = values / max(float(whole), 1e-30)
    still = (spotted if view.smooth else marked)(view.photograph, ratio > start)
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


def _figure(view: View, cmap: str | None) -> str | None:
    """The figure of a sequence or a volume, as it is drawn elsewhere; none of a table."""
    if view.has_positions or not _placed(view):
        return None
    return bytes_of(png(placeless_figure(view, cmap)))


def _placed(view: View) -> bool:
    """Whether something that is attributed has steps or positions."""
    return any(a.ndim > view.e.score.ndim + 1 for a in view.e.attributions.values())


def _flat(view: View) -> list[dict[str, Any]]:
    """Bars for an input without positions: a table."""
    if view.has_positions or _placed(view):
        return []
    rows = []
    for tensor, values in view.flat():
        some = values[:, :MOST_FEATURES]
        reach = max(float(np.abs(some).max()), 1e-12)
        for name, row in zip(view.names, some, strict=True):
            said = f"{tensor}, {name}" if len(view.e.attributions) > 1 else name
            rows.append({"name": said, "bars": bars(row, reach), "reach": reach, "count": len(row)})
    return rows
