"""How a prototype is painted: every number that may be set, checked."""

import math
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from onnxexplain.errors import MethodError
from onnxexplain.prototypes import penalties
from onnxexplain.prototypes.canvas import Canvas
from onnxexplain.prototypes.objective import Objective

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Settings:
    """The options of :func:`onnxexplain.prototype` that are numbers or words."""

    mean_weight: float
    l2: float
    tv: float
    objective: Objective
    steps: int
    rate: float
    jitter: int
    blur: float
    blur_every: int
    bounds: tuple[float, float] | None
    frames: int
    seed: int

    def check(self) -> None:
        """Refuse what cannot be painted with.

        Raises
        ------
        MethodError
            that names the option.
        """
        if self.objective not in get_args(Objective):
            known = ", ".join(get_args(Objective))
            raise MethodError(f"objective is `{self.objective}`; it must be one of {known}")
        for name in ("steps", "jitter", "blur_every", "frames", "seed"):
            value, least = getattr(self, name), 1 if name == "blur_every" else 0
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
                raise MethodError(f"{name} is {value!r}; it must be a whole number from {least} on")
        for name in ("mean_weight", "l2", "tv", "rate", "blur"):
            value = getattr(self, name)
            if not _number(value) or value < 0:
                raise MethodError(f"{name} is {value!r}; it must be a number from 0 on")
        bounds: Any = self.bounds
        if bounds is None:
            return
        pair = isinstance(bounds, list | tuple) and len(bounds) == 2
        if not pair or not all(_number(b) for b in bounds) or bounds[0] >= bounds[1]:
            raise MethodError(f"bounds is {bounds!r}; give the least and the greatest value")

    def check_positions(self, sheet: Canvas) -> None:
        """Refuse what needs height and width where the input has none.

        Raises
        ------
        MethodError
            that names the option.
        """
        for name in ("tv", "jitter", "blur"):
            if getattr(self, name) and sheet.sizes is None:
                raise MethodError(
                    f"{name} is for inputs with height and width; `{sheet.name}` has neither"
                )

    def penalties(
        self, sheet: Canvas, mean: Array | None, dtype: str
    ) -> dict[str, penalties.Penalty]:
        """Return the penalties that weigh anything, by name."""
        found = {}
        if mean is not None and self.mean_weight:
            found["mean"] = penalties.pull(mean, self.mean_weight)
        if self.l2:
            zero = sheet.read(np.zeros((1, *sheet.shape), dtype))
            found["l2"] = penalties.pull(zero, self.l2)
        if self.tv:
            found["tv"] = penalties.variation(self.tv)
        return found

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON takes them."""
        made = asdict(self)
        return made | {"bounds": None if self.bounds is None else [*map(float, self.bounds)]}


def _number(value: Any) -> bool:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return real and math.isfinite(value)
