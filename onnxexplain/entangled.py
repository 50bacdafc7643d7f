"""Totals of samples that only run together, in a model whose inside mixes up whose is what.

A recurrent network written for a batch of two works on tensors [steps, 2, units]: summed over all
axes but the first, such a tensor gives totals of steps. So the score of one sample after the other
is sent back by itself, and whatever arrives anywhere belongs to that sample.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxexplain.methods.answer import Request
from onnxexplain.prepared import Question
from onnxexplain.results import Results, named
from onnxexplain.target import read

Array = np.ndarray[Any, Any]
Send = Callable[[Any, Any, Request], Results]

TOTALS = ("constants/", "total/")
BALANCED = 1e-4
"""So far may totals be from the score, relative to what was added up, by float32 rounding alone."""


def balanced(results: Results, samples: int) -> bool:
    """Whether there is a total for every sample, and they add up to the scores."""
    parts = [part for prefix in TOTALS for part in named(results.raw, prefix).values()]
    if not parts:
        return True
    if any(part.shape[-1:] != (samples,) for part in parts):
        return False
    score = results.raw["score"]
    left = np.abs(score - sum(parts))
    added = np.abs(score) + sum(np.abs(part) for part in parts)
    return bool((left <= BALANCED * np.maximum(added, 1e-30)).all())


def apart(
    question: Question,
    results: Results,
    targets: tuple[Any, Any],
    send: Send,
) -> Results:
    """Return the results with totals that are each sample's own.

    ``targets`` is the target and the targets asked for; ``send(target, targets, request)`` explains
    another one.
    """
    scores = results.values[question.output]
    aims = read(*targets, question.against, scores.shape, question.labels)
    rows = [_totals(aim.seeds(scores), send) for aim in aims]
    kept = {n: v for n, v in results.raw.items() if not n.startswith(TOTALS)}
    several = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    found = several if results.several else {name: value[0] for name, value in several.items()}
    return Results(kept | found, results.values, results.target, results.several)


def _totals(seed: Array, send: Send) -> dict[str, Array]:
    """The totals [N] of one target."""
    columns = []
    for i in range(len(seed)):
        alone = np.zeros_like(seed)
        alone[i] = seed[i]
        raw = send(alone, None, Request()).raw
        columns.append({n: v.sum() for n, v in raw.items() if n.startswith(TOTALS)})
    return {name: np.array([column[name] for column in columns]) for name in columns[0]}
