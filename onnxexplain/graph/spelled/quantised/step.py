"""One node of a walk through a quantised graph, and the words its handler writes with."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxexplain.graph.spelled._spelling import Scope
from onnxexplain.graph.spelled.quantised.grid import DOMAIN, RANGES, Array, Grid, dequantised
from onnxexplain.graph.spelled.quantised.state import Held, Walk

SIGNED = frozenset("Conv ConvTranspose Gemm MatMul Add Sub Sum Mul BatchNormalization".split())
"""Operators that may give less than 0, and before whose grid a quantiser drops a ReLU."""

CARRIES = frozenset(
    (
        "DequantizeLinear Identity Cast Reshape Flatten Squeeze Unsqueeze Softmax LogSoftmax "
        "Sigmoid QLinearSoftmax QLinearSigmoid QuantizeLinear ArgMax ZipMap"
    ).split()
)
"""What may lie between the scores and the end of a model."""


@dataclass(kw_only=True)
class Step(Scope):
    """A node, what may be looked at from it, and what is written in its place."""

    walk: Walk

    # ----- looking -----

    def input(self, slot: int) -> str:
        """Return the name of an input, empty where it is left out."""
        return self.node.inputs[slot] if slot < len(self.node.inputs) else ""

    def said(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.node.attributes.get(name, default)

    def rank(self, tensor: str, otherwise: int) -> int:
        """Return the number of axes of a tensor where that is known."""
        shape = self.shape(tensor)
        return otherwise if shape is None else len(shape)

    def reads_held(self) -> bool:
        """Whether the node reads a tensor that is held as floats."""
        return any(t in self.walk.held for t in self.node.inputs)

    # ----- writing -----

    def constant(self, value: Any, dtype: Any = None, hint: str = "constant") -> str:
        """Hold an array and return its name; Python floats are of the model's float type."""
        given = np.asarray(value, dtype)
        if dtype is None and given.dtype == np.float64:
            given = given.astype(self.walk.dtype)
        name = super().constant(given, given.dtype, hint)
        self.walk.constants.update((t.name, t) for t in self.constants)
        return name

    def cast(self, tensor: str, kind: int, name: str = "") -> str:
        """Write a cast to a type, its output named or anew."""
        name = name or self.fresh("Cast")
        node = helper.make_node("Cast", [tensor], [name], self.fresh("Cast_node"), to=kind)
        self.nodes.append(node)
        return name

    def keep(self) -> None:
        """Write the node as it is, with integers wherever it reads a held tensor."""
        proto = onnx.NodeProto.FromString(self.proto.SerializeToString())
        for slot, tensor in enumerate(self.node.inputs):
            if tensor in self.walk.held:
                proto.input[slot] = self.integers(tensor)
        self.nodes.append(proto)

    # ----- what numbers stand for -----

    def real(self, tensor: str, scale: str, zero: str = "", axis: int = 1, block: int = 0) -> str:
        """Return the float tensor that holds what the numbers of a tensor stand for."""
        held = self.walk.held.get(tensor)
        if held is None:
            return self._read(tensor, scale, zero, axis, block)
        grid = held.grid
        if self.same(grid.scale, scale, 1) and self.same(grid.zero, zero, 0) and not grid.times:
            return held.name
        real = self.whole(tensor)
        if not self.same(zero, "", 0):
            real = self.write("Sub", real, self._wide(zero))
        return real if self.same(scale, "", 1) else self.write("Mul", real, scale)

    def real_at(self, slot: int, axis: int = 1) -> str:
        """Return the same of the input at a slot, its step and zero point being the next two."""
        return self.real(self.input(slot), self.input(slot + 1), self.input(slot + 2), axis)

    def bias(self, tensor: str, *scales: str, alpha: float = 1.0) -> str:
        """Return a bias of integers, whose step is the product of others, as floats."""
        steps = [self.value(scale) for scale in scales]
        numbers = self.value(tensor)
        known = [s for s in steps if s is not None]
        if numbers is None or len(known) < len(steps):
            real = self._wide(tensor)
            for scale in scales:
                real = self.write("Mul", real, scale)
            return real
        total = numbers.astype(np.float64) * alpha
        for s in known:
            total = total * s.astype(np.float64).reshape(() if s.size == 1 else s.shape)
        return self.constant(total.astype(self.walk.dtype))

    def whole(self, tensor: str) -> str:
        """Return the float tensor that holds the numbers of a held tensor themselves."""
        held = self.walk.held[tensor]
        real, grid = self._steps(held), held.grid
        return (
            real if self.same(grid.zero, "", 0) else self.write("Add", real, self._wide(grid.zero))
        )

    def integers(self, tensor: str) -> str:
        """Return the numbers of a held tensor as the integers they are."""
        if tensor not in self.walk.integers:
            held = self.walk.held[tensor]
            self.walk.integers[tensor] = self._integers(held, "")
        return self.walk.integers[tensor]

    def same(self, a: str, b: str, default: float) -> bool:
        """Whether two tensors hold the same steps, or zero points; one left out is a default."""
        a, b = self._source(a), self._source(b)
        if a == b:
            return True
        left, right = (self.value(t) if t else np.array(default) for t in (a, b))
        if left is None or right is None:
            return False
        one = right.size == 1 or left.size == right.size
        return one and bool(np.all(left.ravel() == right.ravel()))

    def _source(self, tensor: str) -> str:
        """Where a tensor comes from, through what only casts or carries it."""
        while (maker := self.walk.makers.get(tensor)) is not None:
            if maker.op_type not in ("Cast", "Identity") or tensor in self.walk.held:
                break
            tensor = maker.inputs[0]
        return tensor

    def _read(self, tensor: str, scale: str, zero: str, axis: int, block: int) -> str:
        """Floats of numbers that no float was made into: constants, or integers of the input."""
        numbers, steps = self.value(tensor), self.value(scale)
        zeros = self.value(zero) if zero else None
        if numbers is not None and steps is not None and (zeros is not None or not zero):
            return self.constant(dequantised(numbers, steps, zeros, axis, block, self.walk.dtype))
        real, rank = self._wide(tensor), len(self.shape(tensor) or ())
        if zero:
            real = self.write("Sub", real, self._along(self._wide(zero), rank, axis, block))
        return self.write("Mul", real, self._along(scale, rank, axis, block))

    def _along(self, steps: str, rank: int, axis: int, block: int) -> str:
        """Steps that broadcast along an axis of a tensor."""
        many = self.shape(steps) or ()
        if block:
            return self.write(
                "Gather", steps, self.constant(np.arange(many[axis] * block) // block), axis=axis
            )
        if len(many) != 1 or rank < 2:
            return steps
        shape = np.ones(rank, np.int64)
        shape[axis] = -1
        return self.write("Reshape", steps, self.constant(shape))

    def _steps(self, held: Held) -> str:
        """How many steps each element of a held tensor is from 0."""
        real = held.name
        for scale in (held.grid.scale, held.grid.times):
            if not self.same(scale, "", 1):
                real = self.write("Div", real, scale)
        return real

    def _wide(self, tensor: str) -> str:
        """A tensor of integers as floats."""
        value = self.value(tensor)
        if value is not None:
            return self.constant(value.astype(self.walk.dtype))
        return self.cast(tensor, helper.np_dtype_to_tensor_dtype(np.dtype(self.walk.dtype)))

    def _integers(self, held: Held, to: str) -> str:
        """Write the numbers of a held tensor as integers, named ``to`` or anew."""
        real, grid = held.name, held.grid
        if grid.kind not in RANGES:
            return self.cast(self.write("Round", self._steps(held)), grid.kind, to)
        said = {"axis": grid.axis, "block_size": grid.block}
        return self.write("Numbers", real, grid.scale, grid.zero, to=to, domain=DOMAIN, **said)

    # ----- keeping to a grid -----

    def quantise(
        self,
        x: str,
        scale: str,
        zero: str,
        to: str,
        *,
        axis: int = 1,
        block: int = 0,
        kind: int = 0,
    ) -> None:
        """Keep the float tensor ``x`` on a grid; it stands for the quantised tensor ``to``.

        The type of the numbers is that of the zero point, else ``kind``, else uint8. A grid that
        begins at 0 has swallowed the ReLU before it, which is written again. The grid of the scores
        has no ends: a score beyond the largest it was calibrated with is explained as well.
        """
        kind = self.walk.kinds.get(zero, 0) or kind or TensorProto.UINT8
        if not zero:
            steps: Array | None = self.value(scale)
            shape = () if steps is None else steps.shape
            zero = self.constant(np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind)))
            self.walk.kinds[zero] = kind
        grid = Grid(scale, zero, kind, axis, block)
        if to not in self.walk.outputs and self._lies_on(x, grid):
            self.hold(to, Held(x, grid))
            return
        low, high = map(float, RANGES[kind])
        if self._begins_at(zero, low) and (maker := self._maker(x)) in (*SIGNED, "Relu"):
            x, low = x if maker == "Relu" else self.write("Relu", x), -math.inf
        if self._ends(to):
            low, high = -math.inf, math.inf
        name = self.name(to, grid)
        said = {"axis": axis, "block_size": block, "low": low, "high": high}
        self.write("FakeQuantize", x, scale, zero, to=name, domain=DOMAIN, **said)
        self.hold(to, Held(name, grid))

    def onto(self, y: str, slot: int) -> bool:
        """Keep the node's result on the grid that stands at a slot of its inputs."""
        self.quantise(y, self.input(slot), self.input(slot + 1), self.node.outputs[0])
        return True

    def _begins_at(self, zero: str, low: float) -> bool:
        """Whether the least number of a grid stands for 0."""
        zeros = self.value(zero)
        return zeros is not None and bool(np.all(zeros.astype(np.float64) == low))

    def _maker(self, x: str) -> str:
        """The type of the operator that makes a tensor."""
        made = next((n.op_type for n in reversed(self.nodes) if x in n.output), "")
        maker = self.walk.makers.get(x)
        return made or (maker.op_type if maker is not None else "")

    def _lies_on(self, x: str, grid: Grid) -> bool:
        """Whether all elements of a float tensor are numbers of a grid already."""
        on = self.walk.on_grid.get(x)
        if on is None or on.kind != grid.kind or (on.axis, on.block) != (grid.axis, grid.block):
            return False
        return self.same(on.scale, grid.scale, 1) and self.same(on.zero, grid.zero, 0)

    def _ends(self, tensor: str) -> bool:
        """Whether a tensor is only carried to the outputs of the model, if it is read at all."""
        readers = self.walk.readers.get(tensor, ())
        return all(n.op_type in CARRIES and self._ends(n.outputs[0]) for n in readers)

    def name(self, tensor: str, grid: Grid) -> str:
        """Return the name for the float tensor that stands for a quantised one.

        It is that of the quantised one or, where a node brings that back to floats, of those.
        """
        if tensor in self.walk.captured:
            return self.fresh("real")
        for reader in () if tensor in self.walk.outputs else self.walk.readers.get(tensor, ()):
            if reader.op_type == "DequantizeLinear" and reader.inputs[0] == tensor:
                zero = reader.inputs[2] if len(reader.inputs) > 2 else ""
                if self.same(reader.inputs[1], grid.scale, 1) and self.same(zero, grid.zero, 0):
                    return reader.outputs[0]
        return tensor

    def hold(self, tensor: str, held: Held) -> None:
        """Note which float tensor stands for a quantised one."""
        self.walk.held[tensor] = held
        if held.grid.kind in RANGES:
            self.walk.on_grid[held.name] = held.grid
        if tensor in self.walk.captured:
            self.walk.integers[tensor] = self._integers(held, tensor)


Handler = Callable[[Step], bool]
"""Writes in floats what a node computes; False where the node must stay as it is."""

HANDLERS: dict[tuple[str, str], Handler] = {}
"""What stands for a quantised operator, by domain and type."""

MICROSOFT = "com.microsoft"


def handler(op_type: str, *domains: str) -> Callable[[Handler], Handler]:
    """Register the decorated function as what stands for a quantised operator."""

    def register(write: Handler) -> Handler:
        for domain in domains or ("",):
            HANDLERS[domain, op_type] = write
        return write

    return register
