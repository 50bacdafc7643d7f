"""A model made ready for one shape of its inputs: lowered, the way through it found, checked."""

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from onnxexplain.compiler import Compiled
from onnxexplain.errors import InputError, ModelError
from onnxexplain.graph import Lowered, Model, Node, channels_last, lower, waiting, watched
from onnxexplain.methods import Method, Way, layers, way
from onnxexplain.methods.account import blocks
from onnxexplain.ops import role_of
from onnxexplain.runtime import Device, Session, capture, evaluate, newest, run_once

Array = np.ndarray[Any, Any]

AGREEMENT = 1e-2
"""How far the lowered model may be from the user's file, relative to its largest output."""

ROUNDED_AGREEMENT = 5e-2
"""The same for a quantised file: what lies half-way between two numbers of a grid falls to either
side, on one optimisation level of the runtime and another too, and the output has steps."""

SETTLED = 22
"""Operators up to this opset have kernels in every ONNX Runtime that can be installed."""


@dataclass(frozen=True)
class Question:
    """What an explainer was made to answer."""

    model: Model
    method: Method
    output: str
    wrt: Sequence[str] | None
    layer: str | None
    labels: list[str] | None
    against: Any
    dtype: str
    device: Device

    @property
    def ties(self) -> str:
        """Who wins among equal elements of a max pool's window."""
        return getattr(self.method, "ties", "first")

    def forward(
        self,
        lowered: Lowered,
        feeds: dict[str, Array],
        tensors: Sequence[str],
        device: Device,
        held: dict[tuple[str, ...], Session] | None = None,
    ) -> dict[str, Any]:
        """Return tensors of the lowered model, in the question's dtype.

        ``held`` keeps the session for the next call with the same tensors.
        """
        if self.dtype == "float64":
            feeds = {
                n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()
            }
        if self.dtype == "float64" or not lowered.runs:
            return evaluate(lowered.proto, feeds, tensors)
        return capture(lowered.proto, feeds, tensors, device, held, lowered.constants)


@dataclass
class Prepared:
    """The model lowered for one shape of its inputs, and the way through it."""

    lowered: Lowered
    nodes: tuple[Node, ...]
    moving: frozenset[str]
    wrt: tuple[str, ...]
    layer: str | None
    """Where a method that looks at a layer looks, by default or as asked."""
    layers: tuple[str, ...] = ()
    """Every layer it looks at, input side first."""
    blocks: tuple[str, ...] = ()
    channels_last: frozenset[str] = frozenset()
    sessions: dict[Any, tuple[Compiled, Session]] = field(default_factory=dict)
    captures: dict[tuple[str, ...], Session] = field(default_factory=dict)
    """What the eager engine runs to get its values."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    difference: float | None = None
    """How far the lowered model was from the user's file; None where nothing was compared."""
    checked: bool = False
    decides: dict[str, str] = field(default_factory=dict)
    """By node, the tensor that tells what the data decides, where the way hangs on that."""
    decided: bool = False
    """Whether it is the way that some data took: for other data it may be another one."""

    def way(self, values: Any, xp: Any, output: str, seed: Any) -> Way:
        """Return the way back over the given values."""
        return Way(
            xp,
            self.nodes,
            values,
            self.moving,
            self.wrt,
            output,
            seed,
            self.layer,
            self.channels_last,
            self.layers,
        )


def prepare(
    question: Question, sizes: dict[str, tuple[int, ...]], decided: Mapping[str, int]
) -> Prepared:
    """Lower the model for inputs of the given sizes and find the way through it.

    Where it takes a branch, or as many steps, as its data say, the way is found only once these
    are ``decided``: until then the result has tensors in ``decides``, and no way.
    """
    model = question.model
    lowered = lowered_for(model, sizes, question.dtype, question.device.options, decided)
    if open_nodes := waiting(lowered, question.output):
        lowered, decides = watched(lowered, open_nodes)
        return Prepared(lowered, (), frozenset(), (), None, decides=decides)
    path = way.find(lowered, model, question.output, question.wrt)
    layer, every = None, question.layer == layers.EVERY
    if question.method.layered:
        asked = None if every else question.layer
        layer = way.cam_layer(lowered, path, asked, question.output)
    prepared = Prepared(lowered, path.nodes, path.moving, path.wrt, layer, decided=bool(decided))
    prepared.channels_last = channels_last(lowered.nodes, lowered.shapes, model.inputs)
    names = dict.fromkeys(lowered.shapes)  # the graph alone is asked: no value is looked at
    prepared.blocks = blocks(prepared.way(names, None, question.output, None))
    if layer is not None:
        ends = {*prepared.blocks, layer}
        found = layers.every(lowered, path, model, ends, prepared.channels_last) if every else ()
        prepared.layers = found or (layer,)
        if layer not in prepared.layers:  # made by lowering: no name of the user's
            prepared.layer = prepared.layers[-1]
    return prepared


def decide(question: Question, prepared: Prepared, feeds: dict[str, Array]) -> dict[str, int]:
    """Ask the data which branches are taken, and how many steps there are."""
    tensors = list(dict.fromkeys(prepared.decides.values()))
    cpu, held = Device.named("cpu"), prepared.captures
    found = question.forward(prepared.lowered, feeds, tensors, cpu, held)
    return {
        name: int(np.asarray(found[tensor]).reshape(-1)[0])
        for name, tensor in prepared.decides.items()
    }


def lowered_for(
    model: Model,
    sizes: dict[str, tuple[int, ...]],
    dtype: str,
    options: Any = None,
    decided: Mapping[str, int] | None = None,
) -> Lowered:
    """Lower the model to what the runtime has kernels for, where that can be done.

    ``options`` are the caller's own ``SessionOptions``.
    """
    run = functools.partial(run_once, options=options)
    lowered = lower(model.proto, sizes, run, dtype, newest(), role_of, decided)
    young = lowered.stepped_back or any(_young(n.domain, n.op_type) for n in lowered.nodes)
    if not lowered.runs or not young:
        return lowered
    if _loads(lowered, options):
        return lowered
    # Known by name only: what the standard defines by older operators is explained through those.
    spread = lower(model.proto, sizes, run, dtype, newest(), _settled_role, decided)
    return spread if _loads(spread, options) else replace(lowered, runs=False)


def _young(domain: str, op_type: str) -> bool:
    """Whether an operator is so new that the runtime may know its name and have no kernel."""
    return not domain and not onnx.defs.has(op_type, SETTLED, "")


def _settled_role(domain: str, op_type: str) -> str:
    return "" if _young(domain, op_type) else role_of(domain, op_type)


def _loads(lowered: Lowered, options: Any) -> bool:
    try:
        cpu = Device.named("cpu", options=options)
        Session(lowered.proto, cpu, plain=True, weights=lowered.constants)
    except ModelError:
        return False
    return True


def agree(question: Question, prepared: Prepared, feeds: dict[str, Array]) -> None:
    """Check, once, that the lowered model answers as the user's file does.

    Raises
    ------
    ModelError
        if it does not: an explanation of it would not be one of the file.
    """
    changed = prepared.lowered.changed
    if prepared.checked or not changed:
        return
    model = question.model
    inputs = {n: v.astype(model.inputs[n].dtype) for n, v in feeds.items()}
    names = list(model.outputs)
    prepared.checked = True
    try:
        found = run_once(model.proto, inputs, names, question.device.options)
        answers = dict(zip(names, found, strict=True))
    except (ModelError, InputError):  # nothing here runs the file as it is: nothing to compare
        return
    theirs = {n: v for n, v in answers.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
    ours = question.forward(prepared.lowered, feeds, list(theirs), Device.named("cpu"))
    worst = max((_difference(ours[n], theirs[n]) for n in theirs), default=0.0)
    rounded = any(node.op_type == "FakeQuantize" for node in prepared.lowered.nodes)
    if not worst <= (ROUNDED_AGREEMENT if rounded else AGREEMENT):
        raise ModelError(
            f"{model.source}: lowered ({'; '.join(changed)}) it answers differently by {worst:.2g} "
            "of its largest output; it cannot be explained faithfully"
        )
    prepared.difference = worst


def _difference(ours: Array, theirs: Array) -> float:
    if not theirs.size:
        return 0.0
    theirs = theirs.astype(np.float64)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
