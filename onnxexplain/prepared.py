"""A model made ready for one shape of its inputs: lowered, the way through it found, checked."""

import functools
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from onnxexplain.compiler import Compiled
from onnxexplain.errors import InputError, ModelError, RuntimeDiffers
from onnxexplain.graph import Lowered, Model, Node, channels_last, lower, waiting, watched
from onnxexplain.methods import Method, Way, layers, way
from onnxexplain.methods.account import blocks
from onnxexplain.ops import role_of
from onnxexplain.runtime import WIDE, Device, Session, capture, evaluate, newest, run_once

Array = np.ndarray[Any, Any]

AGREEMENT = 1e-2
"""How far the lowered model may be from the user's file, relative to its largest output."""

ROUNDED_AGREEMENT = 5e-2
"""The same for a quantised file: what lies half-way between two numbers of a grid falls to either
side, on one optimisation level of the runtime and another too, and the output has steps."""

MOST_PREPARED = 64
"""So many shapes, and ways that data took, are kept ready; the oldest goes first."""

_COMPARED = ("float16", "float32", "float64")

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

    @property
    def cpu(self) -> Device:
        """Where checks run."""
        return Device.named("cpu", threads=self.device.threads, options=self.device.options)

    def forward(
        self,
        prepared: "Prepared",
        feeds: dict[str, Array],
        tensors: Sequence[str],
        device: Device,
        beside: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Return tensors of the lowered model, in the question's dtype.

        The session is kept for the next call; it can tell the tensors ``beside`` as well.
        """
        lowered = prepared.lowered
        if self.dtype == "float64":
            feeds = {
                n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()
            }
        if self.dtype == "float64" or not lowered.runs:
            return evaluate(lowered.proto, feeds, tensors)
        held = prepared.captures
        return capture(lowered.proto, feeds, tensors, device, held, lowered.constants, beside)

    def check(
        self, prepared: "Prepared", feeds: dict[str, Array], tensors: Sequence[str]
    ) -> dict[str, Any]:
        """Return scores or other outputs of the lowered model; one session serves every check."""
        compared = self.model.outputs.values() if prepared.lowered.changed else ()
        floats = [info.name for info in compared if info.dtype in _COMPARED]
        return self.forward(prepared, feeds, tensors, self.cpu, (self.output, *floats))


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
    captures: list[Session] = field(default_factory=list)
    """What runs to get values: the last such session."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    difference: float | None = None
    """How far the lowered model was from the user's file; None where nothing was compared."""
    runtime_difference: float | None = None
    """How far ONNX Runtime is from the file on this processor, where that was noticed."""
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


class Ready:
    """The model made ready, once per shape; where the data decide its way, once for every way."""

    def __init__(self) -> None:
        self._prepared: dict[Any, Prepared] = {}
        self._lock = threading.Lock()

    def __call__(self, question: Question, feeds: Mapping[str, Array]) -> Prepared:
        """Return the model made ready for the shapes at hand, and for what the data decide."""
        sizes = {name: value.shape for name, value in feeds.items()}
        decided: dict[str, int] = {}
        with self._lock:
            while True:
                key = (*sizes.items(), *decided.items())
                if key not in self._prepared:
                    while len(self._prepared) >= MOST_PREPARED:
                        self._prepared.pop(next(iter(self._prepared)))
                    self._prepared[key] = prepare(question, sizes, decided)
                prepared = self._prepared[key]
                if not prepared.decides:
                    return prepared
                decided |= decide(question, prepared, dict(feeds))


def decide(question: Question, prepared: Prepared, feeds: dict[str, Array]) -> dict[str, int]:
    """Ask the data which branches are taken, and how many steps there are."""
    tensors = list(dict.fromkeys(prepared.decides.values()))
    found = question.forward(prepared, feeds, tensors, question.cpu)
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

    Warns
    -----
    RuntimeDiffers
        if it does, but ONNX Runtime does not, because its sums overflow on this processor.
    """
    if prepared.checked:
        return
    if prepared.lowered.changed:
        prepared.difference = _compared(question, prepared, feeds)
    prepared.checked = True
    prepared.captures.clear()  # the engines ask for other tensors


def _compared(question: Question, prepared: Prepared, feeds: dict[str, Array]) -> float | None:
    """How far the outputs are from the file's; None where nothing here runs the file as it is."""
    source, options = question.model.source, question.device.options
    theirs = _answers(question.model, feeds, options)
    if theirs is None:
        return None
    ours = question.check(prepared, feeds, list(theirs))
    rounded = any(node.op_type == "FakeQuantize" for node in prepared.lowered.nodes)
    enough = ROUNDED_AGREEMENT if rounded else AGREEMENT
    worst = _worst(ours, theirs)
    if worst <= enough:
        return worst
    # The caller's own options are not ours to change.
    asked = rounded and options is None
    exact = _answers(question.model, feeds, None, wide=True) if asked else None
    if exact is not None and (mended := _worst(ours, exact)) <= enough:
        prepared.runtime_difference = worst
        text = (
            f"{source}: explained is what the file says; ONNX Runtime answers differently by "
            f"{worst:.2g} of the largest output, but not with the session option {WIDE}=1: on "
            "processors without VNNI its sums of products of bytes overflow"
        )
        warnings.warn(text, RuntimeDiffers, stacklevel=2)
        return mended
    changed = "; ".join(prepared.lowered.changed)
    raise ModelError(
        f"{source}: lowered ({changed}) it answers differently by {worst:.2g} "
        "of its largest output; it cannot be explained faithfully"
    )


def _answers(
    model: Model, feeds: Mapping[str, Array], options: Any, *, wide: bool = False
) -> dict[str, Array] | None:
    """The float outputs of the user's file; None where nothing here runs it as it is."""
    inputs = {n: v.astype(model.inputs[n].dtype) for n, v in feeds.items()}
    names = list(model.outputs)
    try:
        found = run_once(model.proto, inputs, names, options, wide=wide)
    except (ModelError, InputError):
        return None
    answers = zip(names, found, strict=True)
    return {n: v for n, v in answers if isinstance(v, np.ndarray) and v.dtype.kind == "f"}


def _worst(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """The largest difference of any output."""
    return max((_difference(ours[n], theirs[n]) for n in theirs), default=0.0)


def _difference(ours: Array, theirs: Array) -> float:
    if not theirs.size:
        return 0.0
    theirs = theirs.astype(np.float64)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
