"""The loop that sends a score back through a graph, and the step it takes at each node."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from onnxexplain.errors import ModelError, UnsupportedOperator
from onnxexplain.ops import Operator, find
from onnxexplain.tensor import Namespace, Tensor

if TYPE_CHECKING:
    from onnxexplain.graph import Node


@dataclass(frozen=True)
class Step:
    """A node with its tensors, at one point."""

    xp: Namespace
    node: "Node"
    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]
    varies: tuple[bool, ...]

    @classmethod
    def at(
        cls, xp: Namespace, node: "Node", values: Mapping[str, Tensor], moving: Collection[str]
    ) -> "Step":
        """Bring a node and the values around it together."""
        found = find(node.domain, node.op_type)
        if found is None:
            raise UnsupportedOperator(no_way_back(node))
        return cls(
            xp,
            node,
            found,
            tuple(values[t] if t else None for t in node.inputs),
            tuple(values.get(t) if t else None for t in node.outputs),
            tuple(t in moving for t in node.inputs),
        )

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.inputs[0]

    @property
    def y(self) -> Any:
        """The output; a tuple where the node has several."""
        return self.outputs if len(self.outputs) > 1 else self.outputs[0]

    def back(self, g: Any) -> tuple[Tensor | None, ...]:
        """Return the derivative at every input, given the one that arrives at the output."""
        said = self.node.attributes | ({"varies": self.varies} if self.operator.told else {})
        try:
            given = self.operator.back(self.xp, g, self.y, *self.inputs, **said)
        except NotImplementedError as reason:
            raise UnsupportedOperator(no_way_back(self.node, f" with {reason}")) from reason
        except (TypeError, ValueError, IndexError) as error:
            raise _misfit(self.node, error) from error
        missing = len(self.inputs) - len(given)  # optional inputs left out are not asked after
        return given[: len(self.inputs)] + (None,) * missing

    def offset(self) -> Tensor | None:
        """Return ``y - sum(J_i x_i)``, None where it is zero."""
        if self.operator.offset is None:
            raise LookupError(self.operator.op_type)
        y = self.outputs[0]
        try:
            return self.operator.offset(
                self.xp, y, *self.inputs, varies=self.varies, **self.node.attributes
            )
        except (TypeError, ValueError, IndexError) as error:
            raise _misfit(self.node, error) from error

    def forward(self) -> Tensor:
        """Run the operator on this step's inputs."""
        if self.operator.forward is None:
            raise LookupError(self.operator.op_type)
        return self.operator.forward(self.xp, *self.inputs, **self.node.attributes)

    def part(
        self,
        inflow: Callable[[Tensor], Tensor],
        weight: Callable[[Tensor], Tensor],
        bias: Callable[[Tensor], Tensor] | None = None,
    ) -> "Step":
        """Return the same step on a part of its input, of its weight and of its bias."""
        change = {0: inflow, self.operator.weight: weight, self.operator.bias: bias}
        inputs = [
            value if value is None or slot not in change else _changed(change[slot], value)
            for slot, value in enumerate(self.inputs)
        ]
        return replace(self, inputs=tuple(inputs))


def _changed(change: Callable[[Tensor], Tensor] | None, value: Tensor) -> Tensor | None:
    return None if change is None else change(value)


class Rule(Protocol):
    """How one node hands on what arrives: relevance for LRP, the derivative for gradients."""

    def __call__(self, step: Step, g: Any) -> tuple[Tensor | None, ...]:
        """Return what travels on to each input of the step, given what arrived."""


Choose = Callable[[Step], Rule]
"""Names the rule of a step; a plan is one."""


def reverse(
    xp: Namespace,
    nodes: Sequence["Node"],
    values: Mapping[str, Tensor],
    moving: Collection[str],
    seed: Mapping[str, Tensor],
    choose: Choose,
) -> dict[str, Tensor]:
    """Send ``seed`` back through ``nodes`` and return what arrived at every tensor it reached.

    ``moving`` names the tensors that change with the input; nothing is sent to the others.
    """
    score = dict(seed)
    for node in reversed(nodes):
        arriving = tuple(score.get(t) if t else None for t in node.outputs)
        if all(g is None for g in arriving):
            continue
        step = Step.at(xp, node, values, moving)
        given = choose(step)(step, arriving if len(arriving) > 1 else arriving[0])
        for tensor, share in zip(node.inputs, given, strict=True):
            if share is not None and tensor in moving:
                score[tensor] = score[tensor] + share if tensor in score else share
    return score


def _misfit(node: "Node", error: Exception) -> ModelError:
    """The error of a node whose attributes or shapes the operator's way back cannot take."""
    return ModelError(f"{node} does not fit its operator ({type(error).__name__}: {error})")


def no_way_back(node: "Node", reason: str = "") -> str:
    """Return the line that names a node nothing can be sent through."""
    domain = f"{node.domain}." if node.domain else ""
    after = f"`{node.outputs[0]}`" if node.outputs else ""
    own = "" if reason else "; register one with onnxexplain.register_operator"
    return (
        f"no way back through {domain}{node.op_type}{reason} (node `{node.name}`); "
        f"explain a tensor before it with output=, or from one after it with wrt={after}{own}"
    )
