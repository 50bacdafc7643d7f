"""A recurrent layer taken apart into directions and steps.

The product of the input with its weights is one for all steps; what remains of a step is the
product with the state before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxexplain.graph.spelled._activations import Activation, activations
from onnxexplain.graph.spelled._spelling import Scope

State = tuple[str, ...]
"""What one step hands to the next, each [N,H]; the hidden state comes first."""
Step = Callable[["Direction", str, State], State]
"""One step: from the input's part [N,gates*H] and the state before to the state after."""

NODES_PER_STEP = 16
"""About so many nodes a step takes."""

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""For each direction, whether it runs from the last step to the first."""


@dataclass(frozen=True)
class Layer:
    """A recurrent node: its inputs by the standard's name, and its sizes."""

    scope: Scope
    inputs: dict[str, str]
    """What is left out is not in it."""
    steps: int
    batch: int
    width: int
    hidden: int
    states: int
    """How many tensors a step hands to the next."""

    @classmethod
    def of(cls, scope: Scope, states: int) -> "Layer | None":
        """Read a node; None where its shapes are not known yet."""
        inputs = {n: t for n, t in zip(INPUTS, scope.node.inputs, strict=False) if t}
        x, r = scope.shape(inputs["X"]), scope.shape(inputs["R"])
        if x is None or r is None:
            return None
        steps, batch = (x[1], x[0]) if scope.node.attributes.get("layout") else (x[0], x[1])
        return cls(scope, inputs, steps, batch, x[2], r[2], states)

    @property
    def said(self) -> dict[str, Any]:
        """The node's attributes."""
        return self.scope.node.attributes

    @property
    def samples_first(self) -> bool:
        """Whether the batch axis comes before the steps (``layout``)."""
        return bool(self.said.get("layout"))

    def sizes(self, *values: int) -> str:
        """Hold whole numbers."""
        return self.scope.constant(np.array(values, np.int64))


@dataclass(frozen=True)
class Direction:
    """One direction of a layer: what each of its steps reads."""

    layer: Layer
    recurrent: str
    """R, turned: [H,gates*H]."""
    bias: str
    """What is added to the product of R behind a gate; empty where nothing is."""
    peepholes: Sequence[str]
    activations: Sequence[Activation]

    def write(self, op_type: str, *inputs: str) -> str:
        """Write a node."""
        return self.layer.scope.write(op_type, *inputs)

    def clipped(self, x: str) -> str:
        """What goes into an activation, between ``-clip`` and ``clip`` if the node says so."""
        clip = self.layer.said.get("clip", 0.0)
        if not clip:
            return x
        ends = (self.layer.scope.constant(float(end)) for end in (-clip, clip))
        return self.write("Clip", x, *ends)

    def rest(self, gate: str) -> str:
        """What a gate keeps out: ``1 - gate``."""
        return self.write("Sub", self.layer.scope.constant(1.0), gate)

    def cut(self, x: str, *gates: int) -> list[str]:
        """Cut the last axis into parts of so many gates each."""
        sizes = self.layer.sizes(*(n * self.layer.hidden for n in gates))
        return self.layer.scope.write_all("Split", x, sizes, to=[""] * len(gates), axis=-1)


def unroll(scope: Scope, defaults: Sequence[str], states: int, step: Step) -> bool:
    """Write every step of a recurrent node; ``defaults`` are the activations of one direction."""
    said = scope.node.attributes
    backwards, many = DIRECTIONS[said.get("direction", "forward")], len(defaults)
    layer = Layer.of(scope, states)
    if layer is None or not scope.roomy(layer.steps * len(backwards) * NODES_PER_STEP):
        return False
    found = activations(scope, said.get("activations", [*defaults] * len(backwards)))
    if found is None:
        return False
    scope.as_one = True
    flat, ends, walks = _by_step(layer), _Ends.of(layer), []
    for at, reverse in enumerate(backwards):
        to, inflow = _direction(layer, at, flat, found[at * many : (at + 1) * many])
        order = range(layer.steps)[::-1] if reverse else range(layer.steps)
        walks.append(_walk(to, step, inflow, _initial(layer, at), ends, order))
    _deliver(layer, walks)
    return True


# ----- What goes in -----


def _by_step(layer: Layer) -> str:
    """X as [steps*N,width], so that all steps are one product."""
    x = layer.inputs["X"]
    if layer.samples_first:
        x = layer.scope.write("Transpose", x, perm=[1, 0, 2])
    return layer.scope.write("Reshape", x, layer.sizes(layer.steps * layer.batch, layer.width))


def _direction(
    layer: Layer, at: int, flat: str, functions: Sequence[Activation]
) -> tuple[Direction, list[str]]:
    """Return one direction, and the input's part [N,gates*H] of its every step."""
    scope, inputs, index = layer.scope, layer.inputs, layer.scope.constant(at)
    weight, recurrent = (scope.write("Gather", inputs[n], index) for n in "WR")
    early, late = _biases(layer, index)
    total = scope.write("Gemm", flat, weight, *early, transB=1)
    turned = scope.write("Transpose", recurrent, perm=[1, 0])
    peepholes: list[str] = []
    if "P" in inputs:
        sizes = layer.sizes(*[layer.hidden] * 3)
        mine = scope.write("Gather", inputs["P"], index)
        peepholes = scope.write_all("Split", mine, sizes, to=[""] * 3)
    to = Direction(layer, turned, late, peepholes, functions)
    each = layer.sizes(*[layer.batch] * layer.steps)
    return to, scope.write_all("Split", total, each, to=[""] * layer.steps)


def _biases(layer: Layer, index: str) -> tuple[list[str], str]:
    """Return the bias of the input's part, if any, and the one that waits for the reset gate."""
    if "B" not in layer.inputs:
        return [], ""
    scope, hidden = layer.scope, layer.hidden
    mine = scope.write("Gather", layer.inputs["B"], index)
    of_input, of_state = scope.write_all("Split", mine, to=["", ""], num_outputs=2)
    if not layer.said.get("linear_before_reset"):
        return [scope.write("Add", of_input, of_state)], ""
    gates, late = scope.write_all("Split", of_state, layer.sizes(2 * hidden, hidden), to=["", ""])
    none = scope.constant(np.zeros(hidden, np.float32))
    early = scope.write("Add", of_input, scope.write("Concat", gates, none, axis=0))
    return [early], late


def _initial(layer: Layer, at: int) -> State:
    """The state [N,H] before the first step: nothing, where none is given."""
    scope, none = layer.scope, np.zeros((layer.batch, layer.hidden), np.float32)
    axis = 1 if layer.samples_first else 0
    return tuple(
        scope.write("Gather", layer.inputs[n], scope.constant(at), axis=axis)
        if n in layer.inputs
        else scope.constant(none)
        for n in ("initial_h", "initial_c")[: layer.states]
    )


# ----- Step after step -----


@dataclass(frozen=True)
class _Ends:
    """Where each sample ends, if not with the last step."""

    layer: Layer
    lengths: str = ""
    known: Any = None

    @classmethod
    def of(cls, layer: Layer) -> "_Ends":
        given = layer.inputs.get("sequence_lens", "")
        if not given:
            return cls(layer)
        column = layer.scope.write("Reshape", given, layer.sizes(layer.batch, 1))
        return cls(layer, column, layer.scope.value(given))

    def runs(self, step: int) -> bool | str:
        """Whether samples are longer than ``step``: all, none, or the tensor that says which."""
        if not self.lengths:
            return True
        if self.known is not None and len(set(self.known > step)) == 1:
            return bool(self.known[0] > step)
        return self.layer.scope.write(
            "Greater", self.lengths, self.layer.scope.constant(step, np.int32)
        )

    def choose(self, runs: str, new: str, old: str) -> str:
        """The new where a sample runs on, the old where it has ended."""
        return self.layer.scope.write("Where", runs, new, old)

    def of_state(self, state: State) -> State:
        """The state in the end: as in ONNX Runtime, nothing for a sample without any step."""
        started = self.runs(0)
        given = any(n in self.layer.inputs for n in ("initial_h", "initial_c"))
        if started is True or not given:
            return state
        none = self.layer.scope.constant(np.zeros((self.layer.batch, self.layer.hidden)))
        if started is False:
            return tuple(none for _ in state)
        return tuple(self.choose(started, tensor, none) for tensor in state)


def _walk(
    to: Direction, step: Step, inflow: list[str], state: State, ends: _Ends, order: Sequence[int]
) -> tuple[list[str], State]:
    """Return the hidden state of every step, in time's order, and the state in the end."""
    layer, hidden = to.layer, [""] * len(inflow)
    none = layer.scope.constant(np.zeros((layer.batch, layer.hidden), np.float32))
    for at in order:
        runs = ends.runs(at)
        if runs is False:
            hidden[at] = none
            continue
        after = step(to, inflow[at], state)
        hidden[at] = after[0]
        if isinstance(runs, str):
            hidden[at] = ends.choose(runs, after[0], none)
            after = tuple(ends.choose(runs, *pair) for pair in zip(after, state, strict=True))
        state = after
    return hidden, ends.of_state(state)


# ----- What comes out -----


def _deliver(layer: Layer, walks: Sequence[tuple[list[str], State]]) -> None:
    """Write Y [steps,directions,N,H] and the last states [directions,N,H], as asked for."""
    outputs = dict(enumerate(layer.scope.node.outputs))
    each = (1, layer.batch, layer.hidden)
    if outputs.get(0):
        shape = (layer.steps, *each)
        parts = [_reshaped(layer, _joined(layer, hidden, 0), shape) for hidden, _ in walks]
        _turned(layer, _joined(layer, parts, 1), [2, 0, 1, 3], outputs[0])
    for at in range(layer.states):
        if outputs.get(1 + at):
            parts = [_reshaped(layer, state[at], each) for _, state in walks]
            _turned(layer, _joined(layer, parts, 0), [1, 0, 2], outputs[1 + at])


def _joined(layer: Layer, parts: Sequence[str], axis: int) -> str:
    return parts[0] if len(parts) == 1 else layer.scope.write("Concat", *parts, axis=axis)


def _reshaped(layer: Layer, x: str, shape: Sequence[int]) -> str:
    return layer.scope.write("Reshape", x, layer.sizes(*shape))


def _turned(layer: Layer, x: str, perm: list[int], to: str) -> None:
    """Deliver under the node's own output name, the batch axis first where the node wants it."""
    if layer.samples_first:
        layer.scope.write("Transpose", x, perm=perm, to=to)
    else:
        layer.scope.write("Identity", x, to=to)
