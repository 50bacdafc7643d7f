"""Writing: the nodes, constants and names that every word on the tape comes down to."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
from onnx import helper

from onnxexplain.tensor.symbol import Origin, Symbol

if TYPE_CHECKING:
    from onnxexplain.tensor.emit import Tape

Array = np.ndarray[Any, Any]


class Writing:
    """Collects nodes; what has been put off is written when it is first read."""

    def __init__(self, prefix: str, *, blocked: bool, ties: str = "first") -> None:
        self.prefix = prefix
        self.blocked = blocked
        self.ties = ties
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        """The constants that somebody read, by name."""
        self.zero: Symbol | None = None
        """A zero [N,1,1,1] that cannot be folded: what is added to it is made at run time."""
        self._count = 0
        self._memo: dict[tuple[Any, ...], tuple[Symbol, ...]] = {}
        self._constants: dict[tuple[Any, ...], Symbol] = {}

    @property
    def _tape(self) -> "Tape":
        return cast("Tape", self)

    # ----- writing -----

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any,
        value: Array | None = None,
        *,
        finite: bool = False,
    ) -> Symbol:
        """Return the symbol of a tensor that the model already has."""
        symbol = Symbol(self._tape, name, tuple(shape), np.dtype(dtype), value)
        symbol.finite = finite
        return symbol

    def constant(self, value: Any, dtype: Any = None) -> Symbol:
        """Return the symbol of an array; the same array is stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        if np.ndim(value) == 0:
            array = array.reshape(())
        content = hashlib.blake2b(array.reshape(-1).view(np.uint8).data).digest()
        key = (array.shape, array.dtype.str, content)
        if key not in self._constants:
            self._constants[key] = Symbol(self._tape, None, array.shape, array.dtype, array)
        return self._constants[key]

    def op(
        self,
        kind: str,
        *inputs: Symbol | None,
        shape: Sequence[int],
        dtype: Any = None,
        domain: str = "",
        **attributes: Any,
    ) -> Symbol:
        """Write one node, once however often it is asked for, and return its output."""
        return self.ops(kind, *inputs, shapes=[(shape, dtype)], domain=domain, **attributes)[0]

    def ops(
        self,
        kind: str,
        *inputs: Symbol | None,
        shapes: Sequence[tuple[Sequence[int], Any]],
        domain: str = "",
        **attributes: Any,
    ) -> tuple[Symbol, ...]:
        """Write one node with several outputs."""
        names = [self.written(x) if x is not None else "" for x in inputs]
        key = (kind, domain, *names, repr(sorted(attributes.items())))
        if key not in self._memo:
            first = next(x for x in inputs if x is not None)
            outputs = tuple(
                Symbol(self._tape, self._fresh(kind), tuple(s), np.dtype(d or first.dtype))
                for s, d in shapes
            )
            made = [str(out.name) for out in outputs]
            self.nodes.append(
                helper.make_node(kind, names, made, made[0], domain=domain, **attributes)
            )
            self._memo[key] = outputs
        return self._memo[key]

    def written(self, x: Symbol) -> str:
        """Return the name of ``x`` in the graph, writing what has been put off."""
        if x.name is None:
            if x.value is not None:
                x.name = self._fresh("constant")
                self.initializers[x.name] = x.value
            else:
                x.name = self.written(self.settled(x))
        return str(x.name)

    def settled(self, x: Symbol) -> Symbol:
        """Return what has been put off as the output of a node."""
        raise NotImplementedError

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}{kind}_{self._count}"

    def ints(self, values: Sequence[int]) -> Symbol:
        """Return a constant vector of integers."""
        return self.constant(np.array(list(values), np.int64))

    def late(self, shape: Sequence[int], dtype: Any, origin: Origin) -> Symbol:
        """Return a symbol that is written only if somebody reads it."""
        return Symbol(self._tape, None, tuple(shape), np.dtype(dtype), None, origin)
