"""Which rule for which node."""

from collections.abc import Callable

from onnxexplain.errors import MethodError
from onnxexplain.ops import role_of
from onnxexplain.reverse import NodeLike, Rule

Match = str | Callable[[NodeLike], bool]
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

    def __call__(self, node: NodeLike) -> Rule:
        """Return the rule of ``node``.

        Raises
        ------
        MethodError
            if nothing matches it.
        """
        for match, rule in self.pairs:
            if _matches(match, node):
                return rule
        raise MethodError(
            f"the plan has no rule for {node.op_type} (node `{node.name}`); "
            'add one, or end the plan with ("*", chain)'
        )


def _matches(match: Match, node: NodeLike) -> bool:
    if callable(match):
        return match(node)
    return match in ("*", node.op_type, node.name, role_of(node.domain, node.op_type))
