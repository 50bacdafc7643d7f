"""Whether samples stand apart: which axis counts them, and whether they may share a run."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from onnxexplain import feeds as given
from onnxexplain.errors import InputError, MethodError, ModelError, UnsupportedOperator
from onnxexplain.prepared import Prepared, Question

Array = np.ndarray[Any, Any]


class Apart:
    """Tells how many samples there are and whether they run together; tried once per shape.

    ``prepare`` makes the model ready for feeds of any shape.
    """

    def __init__(
        self, question: Question, prepare: Callable[[Mapping[str, Array]], Prepared]
    ) -> None:
        self._question, self._model = question, question.model
        self._prepare = prepare
        self._batchable: dict[Any, bool] = {}
        self._rows: dict[Any, int | None] = {}

    def samples(self, feeds: Mapping[str, Array]) -> int:
        """Return how many samples there are: one where axis 0 of the input counts something else.

        It counts the steps of a sequence, say, if the scores are as many whatever its length.

        Raises
        ------
        InputError
            if it does, and there are several samples along another axis.
        """
        n = given.batch(self._model, feeds)
        if n == 1:
            return 1
        key = tuple((name, value.shape[1:]) for name, value in feeds.items())
        if key not in self._rows:
            try:
                self._rows[key] = self._whatever_length(feeds)
            except (ModelError, InputError, UnsupportedOperator):
                self._rows[key] = None  # the inside of the model is made for one number
        rows = self._rows[key]
        if rows is not None and rows > 1:
            name = min(given.per_sample(self._model))
            raise InputError(
                f"axis 0 of `{name}` does not count samples, and there are {rows} of them along "
                "another axis; explain one at a time"
            )
        return n if rows is None else 1

    def _whatever_length(self, feeds: Mapping[str, Array]) -> int | None:
        """Return how many rows of scores there are, however long axis 0 of the input is.

        None where that depends on it. A file made for one length is asked with that.
        """
        cut, n = given.per_sample(self._model), given.batch(self._model, feeds)
        lengths = (n,) if self._fixed() == {n} else (1, 2)
        found = []
        for k in lengths:
            part = {t: v[:k] if t in cut and v.ndim else v for t, v in feeds.items()}
            prepared = self._prepare(part)
            found.append(prepared.lowered.shapes.get(self._question.output, ()))
        self._runs(prepared, part)
        told = found[0] and found[0] == found[-1] and (len(found) == 2 or found[0][0] != n)
        return found[0][0] if told else None

    def _runs(self, prepared: Prepared, feeds: dict[str, Array]) -> None:
        """Raise where the model takes that length in its shapes alone."""
        self._question.check(prepared, feeds, [self._question.output])

    def _fixed(self) -> set[Any]:
        """The lengths of axis 0 that the file gives to what is cut into samples."""
        cut = given.per_sample(self._model)
        return {i.shape[0] for n, i in self._model.inputs.items() if n in cut and i.shape}

    def together(self, feeds: dict[str, Array]) -> bool:
        """Whether samples may share a run.

        They may where the batch axis is free, every tensor on the way keeps it, and a batch of two
        gives what the two give alone.
        """
        cut = given.per_sample(self._model)
        if any(name in (self._question.wrt or feeds) for name in set(feeds) - cut):
            return False  # each sample has a share of its own in what all have in common
        fixed = self._fixed()
        if fixed == {given.batch(self._model, feeds)}:
            return self._inseparable(feeds)
        if any(isinstance(length, int) for length in fixed):
            return False
        key = tuple((name, value.shape[1:]) for name, value in feeds.items())
        if key not in self._batchable:
            two = {n: v[[0, -1]] if n in cut and v.ndim else v for n, v in feeds.items()}
            try:
                pair = self._prepare(two)
                one = self._prepare(given.sample(self._model, two, 0, 2))
                kept = all(  # an axis that has two of something else by chance is told apart
                    (pair.lowered.shapes[t][:1], one.lowered.shapes[t][:1]) == ((2,), (1,))
                    for t in pair.moving
                )
                kept = kept and not pair.decided  # each sample may go another way
                self._batchable[key] = kept and self._same_apart(pair, two)
                if self._batchable[key]:
                    one.captures.clear()
                if not self._batchable[key] or given.batch(self._model, feeds) != 2:
                    pair.captures.clear()  # it is not what will be explained
            except (ModelError, InputError):  # the inside of the model is made for one sample
                self._batchable[key] = False
        return self._batchable[key]

    def singles(
        self, feeds: dict[str, Array], target: Any, targets: Any
    ) -> Iterator[tuple[dict[str, Array], Any, Any]]:
        """Yield each sample as a batch of one, and the target and targets that are its own."""
        n = self.samples(feeds)
        for i in range(n):
            named = isinstance(targets, str | None)
            several = targets if named else [_at(t, i, n) for t in targets]
            yield given.sample(self._model, feeds, i, n), _at(target, i, n), several

    def _inseparable(self, feeds: dict[str, Array]) -> bool:
        """Whether the samples of a file made for so many of them run together.

        They do where every tensor on the way keeps the batch axis, or nothing else works.
        """
        n, key = given.batch(self._model, feeds), tuple((t, v.shape) for t, v in feeds.items())
        if key not in self._batchable:
            whole = self._prepare(feeds)
            kept = all(whole.lowered.shapes[t][:1] == (n,) for t in whole.moving)
            try:
                self._batchable[key] = kept or not self._same_apart(whole, feeds)
            except (ModelError, InputError):  # the inside of the model is made for so many
                self._batchable[key] = True
        return self._batchable[key]

    def _same_apart(self, whole: Prepared, feeds: dict[str, Array]) -> bool:
        """Whether the first and the last sample have the scores that they have alone."""
        output, n = self._question.output, given.batch(self._model, feeds)
        rows = self._question.check(whole, feeds, [output])[output]
        alone = []
        for i in (0, n - 1):
            one = given.sample(self._model, feeds, i, n)
            alone.append(self._question.check(self._prepare(one), one, [output])[output])
        together, apart = rows[[0, n - 1]], np.concatenate(alone)
        if together.shape != apart.shape:  # a constant made for n rows makes n of one
            return False
        largest = float(np.abs(apart).max())
        return bool(np.allclose(together, apart, rtol=1e-4, atol=1e-4 * largest))


def _at(chosen: Any, i: int, n: int) -> Any:
    """A target of ``n`` samples as that of sample ``i``."""
    if isinstance(chosen, list | np.ndarray) and len(chosen) == n:
        return chosen[i : i + 1]
    if isinstance(chosen, list | np.ndarray) and np.shape(chosen)[:1]:
        raise MethodError(f"a target of {len(chosen)} entries is given for {n} samples")
    return chosen
