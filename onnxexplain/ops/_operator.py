"""What is known of an operator: its role, its way back, its offset; and where it is looked up."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from onnxexplain.tensor import Namespace, Tensor

Back = Callable[..., tuple[Tensor | None, ...]]
"""``back(xp, g, y, *inputs, **attributes)``: the derivative at each input, or None.

With several outputs ``g`` and ``y`` are tuples, and an output nothing arrived at holds None.
One with a parameter ``varies`` is told by it, per input, whether anything is asked for there.
"""
Offset = Callable[..., Tensor | None]
"""``offset(xp, y, *inputs, varies, **attributes)``: ``y - sum(J_i x_i)`` over the inputs that vary.

It has the shape of ``y`` or one that broadcasts to it; None where it is zero.
"""
Forward = Callable[..., Tensor]

ROLES = frozenset(
    (
        "linear sum product activation normalisation softmax pooling routing reduction "
        "recurrent stop"
    ).split()
)

HELD = "held"
"""The domain of standard operators read otherwise: with a part of what varies held fixed."""


@dataclass(frozen=True)
class Operator:
    """How a node of one operator type behaves near a point. It knows no rule."""

    op_type: str
    domain: str
    role: str
    back: Back
    offset: Offset | None
    forward: Forward | None = None
    weight: int | None = None
    bias: int | None = None
    fixed: tuple[int, ...] = ()
    """Inputs that must be constant: there is no way back into them."""

    @functools.cached_property
    def told(self) -> bool:
        """Whether the way back wants to know which inputs vary: some derivatives are dear."""
        return "varies" in inspect.signature(self.back).parameters


_OPERATORS: dict[tuple[str, str], Operator] = {}


def none(
    xp: Namespace, y: Tensor, *inputs: Tensor, varies: tuple[bool, ...], **attributes: Any
) -> None:
    """The offset of what is linear, or positively homogeneous: nothing."""


def operator(
    op_type: str,
    *,
    role: str,
    domain: str = "",
    offset: Offset | None = none,
    forward: Forward | None = None,
    weight: int | None = None,
    bias: int | None = None,
    fixed: tuple[int, ...] = (),
) -> Callable[[Back], Back]:
    """Register the decorated function as the way back through ``op_type``.

    ``offset`` is None where it has no map of its own: its total is then what is missing.
    """
    if role not in ROLES:
        raise ValueError(f"{op_type}: `{role}` is no role; one of {', '.join(sorted(ROLES))}")

    def register(back: Back) -> Back:
        _OPERATORS[domain, op_type] = Operator(
            op_type, domain, role, back, offset, forward, weight, bias, fixed
        )
        return back

    return register


def elementwise(back: Back) -> Offset:
    """Return the offset of a function of each element: ``f(x) - f'(x) x``."""

    def offset(
        xp: Namespace,
        y: Tensor,
        x: Tensor,
        *others: Tensor,
        varies: tuple[bool, ...],
        **attributes: Any,
    ) -> Tensor:
        slope = back(xp, xp.ones_like(y), y, x, *others, **attributes)[0]
        return y - xp.scale(slope, x)

    return offset


def find(domain: str, op_type: str) -> Operator | None:
    """Return what is known of an operator, if anything is."""
    return _OPERATORS.get((domain, op_type))


def role_of(domain: str, op_type: str) -> str:
    """Return the role of an operator; empty where it is not known."""
    found = find(domain, op_type)
    return found.role if found else ""


def operators() -> Iterator[Operator]:
    """Yield every registered operator."""
    yield from _OPERATORS.values()
