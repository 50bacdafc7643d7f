"""The model in the form that rules are written for, every tensor under the user's own name.

In order: functions inlined, weights out of the inputs, sizes fixed to those of the data at hand,
floats brought to one type, the opset raised, constants folded, operators that have no rule spelled
out in standard ones or expanded by their definition, inference form taken (dropout is an identity),
``auto_pad`` resolved. The result computes what the user's file computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import onnx

from onnxexplain.errors import ModelError, OnnxExplainError, first_line
from onnxexplain.graph import folding, functions, inference_form
from onnxexplain.graph.floats import float_tensors, retype
from onnxexplain.graph.folding import Array, Run
from onnxexplain.graph.measured import measure
from onnxexplain.graph.node import Node, array, read_nodes
from onnxexplain.graph.opset import raise_opset, within
from onnxexplain.graph.spelled import Ledger, dequantise, spell, unzip

_DAMAGED = (
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    onnx.shape_inference.InferenceError,
)
"""Whatever a damaged file makes onnx, protobuf or a spelling say."""

MOST_ROUNDS = 64
"""So often what is spelled out may need to be spelled out itself: loops inside loops."""


@dataclass(frozen=True)
class Lowered:
    """A lowered model: the file to run, its nodes, its constants, the shape of every tensor."""

    proto: onnx.ModelProto
    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    floats: frozenset[str]
    changed: tuple[str, ...]
    """What was done that could change a result: the reason to check it against the file."""
    reasons: dict[str, str] = field(default_factory=dict)
    """By node, why it could not be spelled out."""
    runs: bool = True
    """Whether the runtime knows every operator of it; the reference runs it otherwise."""
    stepped_back: bool = False
    """Whether operators newer than the runtime stand in it as they were before."""
    undecided: tuple[str, ...] = ()
    """The nodes that wait for the data to say which branch is taken, how many steps there are."""


def lower(
    proto: onnx.ModelProto,
    sizes: Mapping[str, tuple[int, ...]],
    run: Run,
    dtype: str = "float32",
    newest: tuple[int, int] | None = None,
    role_of: functions.Role | None = None,
    decided: Mapping[str, int] | None = None,
) -> Lowered:
    """Lower ``proto`` for inputs of the given ``sizes``.

    Parameters
    ----------
    sizes
        the shape of every input, batch included.
    run
        runs a small model; used to fold constants.
    dtype
        the float type of everything: ``float32``, or ``float64`` to check with.
    newest
        opset and IR version beyond which the runtime loads nothing.
    role_of
        tells the role of an operator, so that those without one are expanded by their definition.
    decided
        what the data say of the nodes that were ``undecided`` when not asked yet; None where
        there is no data: then both branches are computed, and loops refused.

    Raises
    ------
    ModelError
        if the file is inconsistent, or a constant of it would fill the memory.
    """
    try:
        return _lower(proto, sizes, run, dtype, newest, role_of, decided)
    except OnnxExplainError:
        raise
    except _DAMAGED as error:
        raise ModelError(f"the model is inconsistent ({first_line(error)})") from error


def _lower(
    proto: onnx.ModelProto,
    sizes: Mapping[str, tuple[int, ...]],
    run: Run,
    dtype: str,
    newest: tuple[int, int] | None,
    role_of: functions.Role | None,
    decided: Mapping[str, int] | None,
) -> Lowered:
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for node, read in zip(model.graph.node, read_nodes(model.graph), strict=True):
        node.name = read.name  # the name a nameless node has in the user's own graph
    model, changed = functions.inline(model)
    inference_form.weights_out_of_inputs(model)
    inference_form.fix_sizes(model, sizes)
    if retype(model, dtype):
        changed.append(f"floats as {dtype}")
    model, raised = raise_opset(model)
    changed += raised
    inference_form.without_training(model)
    unzip(model)
    inference_form.scalar_ranges(model)
    inference_form.spell_defaults(model)
    ledger = Ledger(decided=decided)
    model, shapes, more, reasons = _spelled(model, run, dtype, newest, role_of, ledger)
    changed += more
    inference_form.resolve_auto_pad(model, shapes)
    runs, back = True, False
    if newest is not None:
        try:
            model = within(model, newest)
        except ModelError:
            model, runs = _stepped_back(model, newest)
            back = runs
            changed += ["newer operators as they were before"] if back else []
    constants = {t.name: array(t) for t in model.graph.initializer}
    shapes |= {name: value.shape for name, value in constants.items()}
    floats = float_tensors(model)
    parts, nodes = ledger.parts, read_nodes(model.graph)
    nodes = tuple(replace(n, part_of=parts.get(n.outputs[0], "")) for n in nodes)
    undecided = tuple(ledger.undecided)
    return Lowered(
        model,
        nodes,
        constants,
        shapes,
        floats,
        tuple(changed),
        reasons=reasons,
        runs=runs,
        stepped_back=back,
        undecided=undecided,
    )


def _stepped_back(model: onnx.ModelProto, newest: tuple[int, int]) -> tuple[onnx.ModelProto, bool]:
    """Return the model in an opset that the runtime knows, and whether there is one."""
    try:
        return within(model, newest, as_before=True), True
    except ModelError:
        return model, False


def _spelled(
    model: onnx.ModelProto,
    run: Run,
    dtype: str,
    newest: tuple[int, int] | None,
    role_of: functions.Role | None,
    ledger: Ledger,
) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]], list[str], dict[str, str]]:
    """Fold, spell out and expand until nothing is left to do; each may make room for the others."""
    changed: list[str] = []
    latest = newest[0] if newest else onnx.defs.onnx_opset_version()
    for _ in range(MOST_ROUNDS):
        model, shapes = folding.fold(model, measure(model, folding.infer(model), run), run)
        done, reasons = spell(model, shapes, ledger=ledger)
        expanded: list[str] = []
        if role_of is not None:
            model, expanded = functions.expand(model, role_of, latest)
        retype(model, dtype)  # a definition may compute in a type of its own
        if not done and not expanded:
            done = dequantise(model, shapes, dtype)
        if not done and not expanded:
            return model, shapes, list(dict.fromkeys(changed)), reasons
        changed += [f"{op_type} spelled out" for op_type in done] + expanded
        inference_form.without_training(model)
        inference_form.spell_defaults(model)
    raise ModelError(f"more than {MOST_ROUNDS} operators stand inside one another; refused")
