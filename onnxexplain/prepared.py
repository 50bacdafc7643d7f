"""A model made ready for one shape of its inputs: lowered, the way through it found, checked."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from onnxexplain.compiler import Compiled
from onnxexplain.errors import ModelError
from onnxexplain.graph import Lowered, Model, Node, channels_last, lower
from onnxexplain.methods import Method, Way, way
from onnxexplain.methods.account import blocks
from onnxexplain.ops import role_of
from onnxexplain.runtime import Device, Session, capture, evaluate, newest, run_once

Array = np.ndarray[Any, Any]

AGREEMENT = 1e-2
"""How far the lowered model may be from the user's file, relative to its largest output."""

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
        self, lowered: Lowered, feeds: dict[str, Array], tensors: Sequence[str], device: Device
    ) -> dict[str, Any]:
        """Return tensors of the lowered model, in the question's dtype."""
        if self.dtype == "float64":
            feeds = {
                n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()
            }
        if self.dtype == "float64" or not lowered.runs:
            return evaluate(lowered.proto, feeds, tensors)
        return capture(lowered.proto, feeds, tensors, device)


@dataclass
class Prepared:
    """The model lowered for one shape of its inputs, and the way through it."""

    lowered: Lowered
    nodes: tuple[Node, ...]
    moving: frozenset[str]
    wrt: tuple[str, ...]
    layer: str | None
    blocks: tuple[str, ...] = ()
    channels_last: frozenset[str] = frozenset()
    sessions: dict[Any, tuple[Compiled, Session]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    difference: float | None = None
    """How far the lowered model was from the user's file; None where nothing was compared."""
    checked: bool = False

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
        )


def prepare(question: Question, sizes: dict[str, tuple[int, ...]]) -> Prepared:
    """Lower the model for inputs of the given sizes and find the way through it."""
    model = question.model
    lowered = _lowered(model, sizes, question.dtype)
    path = way.find(lowered, model, question.output, question.wrt)
    layer = None
    if question.method.layered:
        layer = way.cam_layer(lowered, path, question.layer, question.output)
    prepared = Prepared(lowered, path.nodes, path.moving, path.wrt, layer)
    prepared.channels_last = channels_last(lowered.nodes, lowered.shapes, model.inputs)
    names = dict.fromkeys(lowered.shapes)  # the graph alone is asked: no value is looked at
    prepared.blocks = blocks(prepared.way(names, None, question.output, None))
    return prepared


def _lowered(model: Model, sizes: dict[str, tuple[int, ...]], dtype: str) -> Lowered:
    """Lower the model to what the runtime has kernels for, where that can be done."""
    lowered = lower(model.proto, sizes, run_once, dtype, newest(), role_of)
    if not lowered.runs or not any(_young(n.domain, n.op_type) for n in lowered.nodes):
        return lowered
    if _loads(lowered):
        return lowered
    # Known by name only: what the standard defines by older operators is explained through those.
    spread = lower(model.proto, sizes, run_once, dtype, newest(), _settled_role)
    return spread if _loads(spread) else replace(lowered, runs=False)


def _young(domain: str, op_type: str) -> bool:
    """Whether an operator is so new that the runtime may know its name and have no kernel."""
    if domain or not onnx.defs.has(op_type):
        return False
    since: int = onnx.defs.get_schema(op_type).since_version
    return since > SETTLED


def _settled_role(domain: str, op_type: str) -> str:
    return "" if _young(domain, op_type) else role_of(domain, op_type)


def _loads(lowered: Lowered) -> bool:
    try:
        Session(lowered.proto, Device.named("cpu"), plain=True)
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
        answers = dict(zip(names, run_once(model.proto, inputs, names), strict=True))
    except ModelError:  # nothing here runs the file as it is: nothing to compare with
        return
    theirs = {n: v for n, v in answers.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
    ours = question.forward(prepared.lowered, feeds, list(theirs), Device.named("cpu"))
    worst = max((_difference(ours[n], theirs[n]) for n in theirs), default=0.0)
    if not worst <= AGREEMENT:
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
