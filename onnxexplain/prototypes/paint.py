"""Painting a class prototype: what is asked for, checked, and the descent begun."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxexplain import feeds
from onnxexplain.errors import InputError, MethodError
from onnxexplain.explainer import Explainer, load
from onnxexplain.graph import Model
from onnxexplain.prototypes.canvas import Canvas, canvas
from onnxexplain.prototypes.descent import Progress, walk
from onnxexplain.prototypes.objective import Objective, ask, slope
from onnxexplain.prototypes.result import Prototype
from onnxexplain.prototypes.settings import Settings
from onnxexplain.target import TOP
from onnxexplain.target import read as read_aims

Array = np.ndarray[Any, Any]

STARTS = ("zeros", "grey", "mean", "noise")

ROUGH = 0.1
"""The deviation of the noise to start from, where black to white is 1."""


def prototype(
    model: Model | str | Path | bytes | onnx.ModelProto,
    target: Any,
    start: Any = None,
    *,
    mean: Any = None,
    mean_weight: float = 0.1,
    l2: float = 0.0,
    tv: float = 0.0,
    objective: Objective = "cross-entropy",
    steps: int = 1000,
    rate: float = 0.01,
    jitter: int = 0,
    blur: float = 0.0,
    blur_every: int = 4,
    bounds: tuple[float, float] | None = None,
    frames: int = 0,
    preprocess: str | Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    output: str | None = None,
    seed: int = 0,
    dtype: str = "float32",
    engine: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Prototype:
    """Paint the image that a model takes most for a class, by gradient descent on its input.

    Simonyan, Vedaldi and Zisserman 2013, arXiv 1312.6034, section 2, with Adam. The loss is the
    mean over the targets of the cross-entropy (or minus the logit) and of the penalties; beside
    that mean the images do not know of one another.

    Lengths are told in *white*: where ``preprocess`` or the model's metadata says how a photograph
    becomes an input, the image moves between black, 0, and white, 1, and rates, weights and bounds
    are in that measure. Elsewhere it is the input's own.

    Parameters
    ----------
    target
        a class, a label, a list of these (one image each), or ``"all"``.
    start
        ``"zeros"`` (an input of zeros, the default), ``"grey"`` (half of white), ``"mean"`` (the
        mean images), ``"noise"`` (grey and normal noise, by ``seed``), or an array: an input for
        all targets, or one each, to be moved towards another class.
    mean
        an image to stay near, an input like ``start``; one per class of the model, one per target,
        or one for all.
    mean_weight
        the weight of ``mean((x - mean) ** 2)``.
    l2, tv
        the weights of ``mean((x - zero) ** 2)``, zero being the input's own, and of the total
        variation, the mean length of the step from pixel to pixel.
    objective
        ``cross-entropy`` of the softmax (or sigmoid) of the scores, or ``logit``.
    steps, rate
        of Adam, whose steps are about ``rate`` long.
    jitter
        how many pixels the image is shifted at random, at the most, before each step.
    blur, blur_every
        the deviation, in pixels, of the blur applied after every so many steps.
    bounds
        the least and the greatest value.
    frames
        how many images on the way are kept.
    progress
        called now and then with the step, their number, and the loss.

    Returns
    -------
    Prototype

    Raises
    ------
    MethodError, InputError, ModelError, UnsupportedOperator, DeviceError
        each in one line.
    """
    begin = time.perf_counter()
    start = "zeros" if start is None else start
    settings = Settings(
        mean_weight, l2, tv, objective, steps, rate, jitter, blur, blur_every, bounds, frames, seed
    )
    settings.check()
    model = load(model)
    given = [value for value in (start, mean) if not isinstance(value, str | None)]
    sheet = canvas(model, preprocess, given)
    settings.check_positions(sheet)
    explainer = Explainer(
        model,
        "gradient",
        output=output,
        labels=labels,
        dtype=dtype,
        engine=engine,
        device=device,
        threads=threads,
    )
    ask(explainer, objective)
    classes, many = _classes(explainer, sheet, target)
    to = None if mean is None else _means(sheet, mean, classes, many, dtype)
    rng = np.random.default_rng(seed)
    planes = _start(sheet, start, to, len(classes), rng, dtype)
    trial = sheet.paint(planes + np.asarray(rng.normal(0, ROUGH, planes.shape), dtype))
    feeds.read(model, {sheet.name: trial})
    climb = slope(explainer, sheet.name, trial, classes)
    with np.errstate(all="ignore"):  # what overflows is seen in the loss
        track = walk(
            planes, sheet, climb, settings.penalties(sheet, to, dtype), settings, rng, progress
        )
    return Prototype(
        images=sheet.paint(track.planes),
        target=classes,
        loss=np.sum([*track.losses.values()], axis=0),
        losses=track.losses,
        logits=track.scores,
        start=sheet.paint(planes),
        mean=None if to is None else sheet.paint(to),
        frames=np.array([sheet.paint(frame) for frame in track.frames]),
        frame_steps=tuple(track.frame_steps),
        model=model,
        output=explainer.question.output,
        labels=explainer.question.labels,
        options=settings.record() | {"start": start if isinstance(start, str) else "given"},
        canvas=sheet,
        seconds=time.perf_counter() - begin,
    )


# ----- What was asked for -----


def _classes(explainer: Explainer, sheet: Canvas, target: Any) -> tuple[Array, int]:
    """Return the class of every prototype, and how many classes there are."""
    first = (explainer.model.inputs[sheet.name].shape or (1,))[0]
    one = np.zeros((first if isinstance(first, int) else 1, *sheet.shape), np.float32)
    shape = explainer.prepare({sheet.name: one}).lowered.shapes[explainer.question.output]
    many = shape[1] if len(shape) > 1 else 1
    labels = explainer.question.labels
    if labels is not None and len(labels) != many:
        raise InputError(f"{len(labels)} labels do not fit the model's {many} classes")
    listed = isinstance(target, list | tuple) or (isinstance(target, np.ndarray) and target.ndim)
    targets = target if listed or (isinstance(target, str) and target == "all") else [target]
    found = read_aims(None, targets, None, (1, *shape[1:]), labels)
    classes = [int(aim.classes[0]) if aim.classes is not None else TOP for aim in found]
    if TOP in classes:
        wrong = targets[classes.index(TOP)]
        raise MethodError(f"target `{wrong}`: a prototype is of a class; give its number or label")
    return np.array(classes, np.int64), many


def _means(sheet: Canvas, mean: Any, classes: Array, many: int, dtype: str) -> Array:
    """Return the mean image of every target, as planes."""
    planes = sheet.given("the mean image", mean, (many, len(classes)), dtype)
    if len(planes) == many:
        return planes[classes]
    return np.broadcast_to(planes, (len(classes), *planes.shape[1:]))


def _start(
    sheet: Canvas, start: Any, to: Array | None, count: int, rng: np.random.Generator, dtype: str
) -> Array:
    """Return the planes to start from, [T,...]."""
    zero = sheet.read(np.zeros((count, *sheet.shape), dtype))
    if not isinstance(start, str):
        planes = sheet.given("the image to start from", start, (count,), dtype)
        return np.broadcast_to(planes, zero.shape).copy()
    if start == "mean":
        if to is None:
            raise MethodError("there is no mean image to start from; give one")
        return to.copy()
    if start == "grey":
        return np.full_like(zero, 0.5)
    if start == "noise":
        return np.asarray(0.5 + rng.normal(0, ROUGH, zero.shape), dtype)
    if start != "zeros":
        raise MethodError(f"no start `{start}`; one of {', '.join(STARTS)}, or an array")
    return zero
