"""Which rule for which node."""

from collections.abc import Callable

from onnxexplain.errors import MethodError
from onnxexplain.reverse import Rule, Step

Match = str | Callable[[Step], bool]
"""A role (`linear`), an operator (`Conv`), a node's name, ``*`` for any, or a predicate."""


class Plan:
    """Ordered pairs of a match and a rule; the first that matches a node is its rule.

    ``plan | other`` asks ``other`` where ``plan`` has nothing to say.
    """

    def __init__(self, *pairs: tuple[Match, Rule]) -> None:
        self.pairs = pairs

    def __or__(self, other: "Plan") -> "Plan":
        return Plan(*self.pairs, *other.pairs)

    def __repr__(self) -> str:
        return f"Plan({', '.join(map(repr, self.pairs))})"

    def __call__(self, step: Step) -> Rule:
        """Return the rule of a step.

        Raises
        ------
        MethodError
            if nothing matches it.
        """
        for match, rule in self.pairs:
            if _matches(match, step):
                return rule
        raise MethodError(
            f'the plan has no rule for {step.node}; add one, or end the plan with ("*", chain)'
        )


def _matches(match: Match, step: Step) -> bool:
    if callable(match):
        return match(step)
    return match in ("*", step.node.op_type, step.node.name, step.operator.role)
