"""Which keys a query may attend to, in attention."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxexplain.graph.spelled._spelling import Scope

Array = np.ndarray[Any, Any]
NEVER = float("-inf")


@dataclass
class Mask:
    """What is allowed, and what is added to scores; each broadcasts to [N,heads,queries,keys].

    What is known beforehand is worked out beforehand.
    """

    scope: Scope
    queries: int
    keys: int
    known: Array | None = None
    """True where a key may be attended to, as far as it is known."""
    asked: list[str] = field(default_factory=list)
    """Tensors that tell the rest."""
    added: str = ""

    # ----- What it is made of -----

    def give(self, tensor: str) -> bool:
        """Take a mask of truth values, or of numbers to add of which minus infinity forbids.

        It may be shorter than the keys: the rest is forbidden. False where its shape is unknown.
        """
        shape, value = self.scope.shape(tensor), self.scope.value(tensor)
        if shape is None:
            return False
        numbers = self.scope.is_float(tensor)
        rest = (*shape[:-1], self.keys - shape[-1])
        never = np.full(rest, NEVER, np.float32) if numbers else np.zeros(rest, bool)
        if value is not None:
            self._give_known(np.concatenate([value, never.astype(value.dtype)], -1))
            return True
        if never.size:
            tensor = self.scope.write("Concat", tensor, self.scope.constant(never), axis=-1)
        if not numbers:
            self.asked.append(tensor)
            return True
        barred = self.scope.write("IsInf", tensor, detect_positive=0)
        self.asked.append(self.scope.write("Not", barred))
        self.added = self.scope.write("Where", barred, self.scope.constant(0.0), tensor)
        return True

    def _give_known(self, value: Array) -> None:
        if value.dtype == bool:
            self._allow(value)
            return
        self._allow(~np.isneginf(value))
        finite = np.where(np.isneginf(value), 0, value).astype(np.float32)
        self.added = self.scope.constant(finite) if finite.any() else ""

    def within(self, past: int, filled: str, least: int | None, most: int | None) -> None:
        """Allow keys from ``most`` places before the query to ``least`` places before it.

        The first query stands behind ``past`` keys, or, where ``filled`` names how many keys each
        sample has, at such a place that the last one stands at the last of them.
        """
        if least is None and most is None:
            return
        apart = np.arange(self.queries)[:, None] - np.arange(self.keys)
        moved = self._moved(filled, apart - self.queries) if filled else apart + past
        if least is not None:
            self._compare("GreaterOrEqual", moved, least)
        if most is not None:
            self._compare("LessOrEqual", moved, most)

    def before(self, filled: str) -> None:
        """Allow only so many keys of each sample."""
        self._compare("Greater", self._moved(filled, -np.arange(self.keys)), 0)

    def _moved(self, filled: str, places: Array) -> Array | str:
        """Places further on by a number per sample."""
        value, sizes = self.scope.value(filled), (-1, 1, 1, 1)
        if value is not None:
            return value.reshape(sizes) + places
        column = self.scope.write("Reshape", filled, self.scope.constant(np.array(sizes)))
        return self.scope.write("Add", column, self.scope.constant(places))

    def _compare(self, op_type: str, places: Array | str, limit: int) -> None:
        if isinstance(places, str):
            self.asked.append(self.scope.write(op_type, places, self.scope.constant(limit)))
        else:
            self._allow(_COMPARISONS[op_type](places, limit))

    def _allow(self, where: Array) -> None:
        self.known = where if self.known is None else self.known & where

    # ----- What it does -----

    def leave_out(self, scores: str) -> str:
        """Return the scores, minus infinity where a key is forbidden."""
        allowed = self._allowed()
        return self._choose(allowed, scores) if allowed else scores

    def weights(self, scores: str) -> str:
        """Return the softmax of what is allowed: zeros for a query that may attend to nothing."""
        allowed = self._allowed()
        if not allowed:
            return self.scope.write("Softmax", scores, axis=-1)
        barred = self._barred(allowed)
        if not barred:
            return self.scope.write("Softmax", self._choose(allowed, scores), axis=-1)
        open_ = self.scope.write("Or", allowed, barred)  # a softmax of nothing would be NaN
        made = self.scope.write("Softmax", self._choose(open_, scores), axis=-1)
        return self.scope.write("Where", barred, self.scope.constant(0.0), made)

    def _choose(self, allowed: str, scores: str) -> str:
        return self.scope.write("Where", allowed, scores, self.scope.constant(NEVER))

    def _allowed(self) -> str:
        """Return the tensor that says what is allowed; empty where everything is."""
        parts = list(self.asked)
        if self.known is not None and not self.known.all():
            parts.append(self.scope.constant(self.known))
        while len(parts) > 1:
            parts[:2] = [self.scope.write("And", *parts[:2])]
        return parts[0] if parts else ""

    def _barred(self, allowed: str) -> str:
        """Return the tensor that says which queries may attend to nothing; empty for none."""
        if not self.asked and self.known is not None:
            rows = ~self.known.any(axis=-1, keepdims=True)
            return self.scope.constant(rows) if rows.any() else ""
        write, constant = self.scope.write, self.scope.constant
        some = write("Where", allowed, constant(1.0), constant(0.0))
        most = write("ReduceMax", some, constant(np.array([-1])))
        return write("Less", most, constant(0.5))


_COMPARISONS = {
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
}
