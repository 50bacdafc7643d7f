"""What a class prototype climbs: how sure the model is of a class, and the derivative of that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from onnxexplain import compiler, engines
from onnxexplain.explainer import Explainer
from onnxexplain.methods import Found, Method, Way
from onnxexplain.methods.answer import Request
from onnxexplain.methods.way import ending
from onnxexplain.prepared import agree
from onnxexplain.rules import Plan, chain
from onnxexplain.tensor import Tensor

Array = np.ndarray[Any, Any]

Objective = Literal["cross-entropy", "logit"]

CHAIN = Plan(("*", chain))

Slope = Callable[[Array], tuple[Array, Array, Array]]
"""From inputs [T,...] to the derivative of each one's loss, the losses [T], the scores [T,K,...]"""


@dataclass(frozen=True)
class Loss(Method):
    """The loss of each sample for its class, in words that both engines speak.

    ``cross-entropy`` is that of the softmax over the classes, or, where the model gives each class
    a sigmoid or has but one, of that sigmoid; ``logit`` is the score itself, its sign turned.
    """

    name: ClassVar[str] = "class-prototype"
    objective: Objective = "cross-entropy"
    sigmoid: bool = False

    def __call__(self, way: Way) -> Found:
        """Seed the way back with the loss's own derivative by the scores."""
        xp, scores = way.xp, way.values[way.output]
        every = list(range(1, scores.ndim))
        if self.objective == "logit":
            loss, seed = -1.0 * _total(xp, way.seed * scores, every), -1.0 * way.seed
        elif self.sigmoid or scores.ndim < 2 or scores.shape[1] == 1:
            loss, seed = _sigmoid(xp, way.seed, scores, every)
        else:
            loss, seed = _softmax(xp, way.seed, scores, every)
        g = replace(way, seed=seed).back(CHAIN)
        return Found({name: g[name] for name in way.wrt}, {}, {"loss": loss})


def _total(xp: Any, value: Tensor, axes: list[int]) -> Tensor:
    return xp.sum(value, axis=axes) if axes else value


def _softmax(xp: Any, one_hot: Tensor, scores: Tensor, every: list[int]) -> tuple[Tensor, Tensor]:
    """``log(sum(exp(z))) - z_c`` and ``softmax(z) - one_hot``; positions are summed over first."""
    z = xp.sum(scores, axis=every[1:], keepdims=True) if every[1:] else scores
    top = xp.max(z, axis=1, keepdims=True)
    powers = xp.exp(z - top)
    whole = xp.sum(powers, axis=1, keepdims=True)
    loss = xp.sum(xp.log(whole) + top, axis=every) - xp.sum(one_hot * scores, axis=every)
    return loss, powers / whole - one_hot


def _sigmoid(xp: Any, one_hot: Tensor, scores: Tensor, every: list[int]) -> tuple[Tensor, Tensor]:
    """``log(1 + exp(-z_c))``, and its derivative ``sigmoid(z_c) - 1``."""
    z = xp.sum(one_hot * scores, axis=every, keepdims=True) if every else scores
    power = xp.exp(-1.0 * xp.abs(z))
    loss = xp.log(power + 1.0) + xp.maximum(-1.0 * z, 0.0)
    # sigmoid(-z), in the form whose power cannot overflow
    miss = xp.where(z > 0.0, power, xp.ones_like(power)) / (power + 1.0)
    return _total(xp, loss, every), -1.0 * (miss * one_hot)


# ----- With its engine -----


def ask(explainer: Explainer, objective: Objective) -> None:
    """Turn an explainer into one that answers with this loss and its derivative."""
    question = explainer.question
    ends = [end for name in explainer.model.outputs if (end := ending(explainer.model, name))]
    sigmoid = any(end.op_type == "Sigmoid" and end.inputs[0] == question.output for end in ends)
    explainer.question = replace(question, method=Loss(objective, sigmoid))


def slope(explainer: Explainer, name: str, x: Array, classes: Array) -> Slope:
    """Return what computes loss and derivative at inputs like ``x`` [T,...].

    Compiled, one run of one graph gives scores, loss and derivative; the seed is made inside it.
    """
    feeds = {name: x}
    if len(x) == 1 or explainer.apart.together(feeds):
        rows = [slice(0, len(x))]
    else:
        rows = [slice(i, i + 1) for i in range(len(x))]
    one = {name: x[rows[0]]}
    prepared = explainer.prepare(one)
    agree(explainer.question, prepared, one)
    if explainer.engine == "compiled" and prepared.lowered.runs:
        parts = [_compiled(explainer, name, x[row], classes[row]) for row in rows]
    else:
        parts = [_eager(explainer, name, classes[row]) for row in rows]
    if len(rows) == 1:
        return parts[0]

    def one_by_one(values: Array) -> tuple[Array, Array, Array]:
        found = [part(values[row]) for part, row in zip(parts, rows, strict=True)]
        gradient, loss, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return gradient, loss, scores

    return one_by_one


def _compiled(explainer: Explainer, name: str, x: Array, classes: Array) -> Slope:
    question = explainer.question
    prepared = explainer.prepare({name: x})
    shape = prepared.lowered.shapes[question.output]
    seeded = len(shape) < 2  # one score without an axis of classes
    graph, session = engines.session(question, prepared, 1, seeded, Request())
    wanted = [graph.outputs[0, f"attribution/{name}"], graph.outputs[0, "extra/loss"]]
    target: dict[str, Array] = {compiler.TARGET: classes[None]}
    if seeded:
        target = {compiler.SEED: np.ones((1, *shape), np.float32)}

    def run(values: Array) -> tuple[Array, Array, Array]:
        gradient, loss, scores = session.run({name: values, **target}, [*wanted, question.output])
        return gradient, loss, scores

    return run


def _eager(explainer: Explainer, name: str, classes: Array) -> Slope:
    def run(values: Array) -> tuple[Array, Array, Array]:
        found = explainer.compute({name: values}, classes, None, Request())
        raw, scores = found.raw, found.values[explainer.question.output]
        return raw[f"attribution/{name}"], raw["extra/loss"], scores

    return run
