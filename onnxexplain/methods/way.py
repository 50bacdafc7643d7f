"""Finding the way: which tensor holds the scores, which nodes lie between it and the input."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxexplain.errors import MethodError, ModelError, UnsupportedOperator, nearest
from onnxexplain.graph import (
    Lowered,
    Model,
    Node,
    before,
    defined,
    ends_in,
    quantised,
    spelled,
    without_derivative,
)
from onnxexplain.ops import find as known
from onnxexplain.reverse import no_way_back

_PLUMBING = frozenset(
    (
        "Identity Cast Reshape Squeeze Dropout ZipMap Normalizer QuantizeLinear DequantizeLinear"
    ).split()
)


@dataclass(frozen=True)
class Path:
    """The nodes between what receives the attribution and the scores."""

    nodes: tuple[Node, ...]
    moving: frozenset[str]
    wrt: tuple[str, ...]


def scores(model: Model, output: str | None) -> str:
    """Return the tensor that holds the scores.

    By default the first float output of the file; a softmax or sigmoid at the very end of it is
    stepped over, through whatever merely carries it, so that the logit is explained.
    """
    makers = {t: node for node in model.nodes for t in node.outputs}
    if output is not None:
        names = [*makers, *model.inputs]
        if output not in names:
            raise MethodError(f"no tensor `{output}`{nearest(output, names)}")
        return output
    floats = [n for n, i in model.outputs.items() if "float" in i.dtype or i.dtype == "unknown"]
    floats = floats or [n for n in model.outputs if n in makers and _stands_for_floats(makers[n])]
    if not floats:
        raise ModelError(
            f"{model.source}: no output of the model is a float; name one with output="
        )
    end = ending(model, floats[0])
    return floats[0] if end is None else end.inputs[0]


def ending(model: Model, tensor: str) -> Node | None:
    """Return the softmax or sigmoid that made a tensor, through whatever merely carries it."""
    makers = {t: node for node in model.nodes for t in node.outputs}
    while (node := makers.get(tensor)) is not None and node.op_type in _PLUMBING:
        tensor = node.inputs[0]
    return None if node is None else ends_in(node)


def _stands_for_floats(node: Node) -> bool:
    """Whether a node of a quantised network makes integers."""
    return quantised(node.domain, node.op_type)


def check(model: Model, output: str, wrt: Sequence[str] = ()) -> None:
    """Refuse, before anything runs, a model with an operator on the way that has no way back.

    The way ends at ``wrt`` where that is given. What a function of the model's own hides is found
    out once it is inlined.
    """
    makers = {t: node for node in model.nodes for t in node.outputs}
    inner = {f.name for f in model.proto.functions}
    squashed = {before(t): t for t in makers}  # scores that a node of the file keeps to itself
    stack, seen = [squashed.get(output, output)], set()
    from_input = _downstream(model, wrt)
    while stack:
        tensor = stack.pop()
        node = None if tensor in wrt else makers.get(tensor)
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if not any(t in from_input for t in node.reads):
            continue
        if known(node.domain, node.op_type) is None and not _lowered_away(node, inner):
            reason = without_derivative(node.op_type)
            raise UnsupportedOperator(f"{model.source}: {no_way_back(node, reason)}")
        operator = known(node.domain, node.op_type)
        if operator is None or operator.role != "stop":
            stack += [t for t in node.reads if t]


def _lowered_away(node: Node, functions: set[str]) -> bool:
    """Whether lowering may replace a node by what has a way back."""
    if node.op_type in ("Dropout", "Constant", "Upsample") or spelled(node.domain, node.op_type):
        return True
    return defined(node.domain, node.op_type, functions)


def _downstream(model: Model, wrt: Sequence[str]) -> set[str]:
    reached = set(wrt) or {n for n, i in model.inputs.items() if "float" in i.dtype}
    for node in model.nodes:
        operator = known(node.domain, node.op_type)
        if operator is not None and operator.role == "stop":
            continue
        if any(t in reached for t in node.reads):
            reached.update(t for t in node.outputs if t)
    return reached


def find(lowered: Lowered, model: Model, output: str, wrt: Sequence[str] | None) -> Path:
    """Return the nodes between ``wrt`` (the float inputs by default) and ``output``.

    Raises
    ------
    MethodError
        if a name is no tensor of the model, or the scores do not depend on any of them.
    UnsupportedOperator
        if a node between has no way back, or has one only into another of its inputs.
    """
    if output not in lowered.shapes:
        _check_refused(lowered, output)
        raise ModelError(f"{model.source}: the shape of `{output}` cannot be told beforehand")
    if not lowered.shapes[output]:
        raise ModelError(
            f"{model.source}: `{output}` has no batch axis left (a squeeze without axes?); "
            "name a tensor before it with output="
        )
    sources = list(wrt) if wrt else [n for n in model.inputs if n in lowered.floats]
    for name in sources:
        if name not in lowered.floats or name in lowered.constants:
            floats = sorted(lowered.floats - set(lowered.constants))
            raise MethodError(f"no float tensor `{name}` in the model{nearest(name, floats)}")
    moving = set(sources)
    for node in lowered.nodes:
        if any(t in moving for t in node.reads):
            moving.update(t for t in node.outputs if t in lowered.floats and t not in sources)
    needed, nodes = {output}, []
    for node in reversed(lowered.nodes):
        if needed.isdisjoint(node.outputs) or not any(t in moving for t in node.reads):
            continue
        if all(t in sources for t in node.outputs):
            continue
        nodes.append(node)
        needed.update(t for t in node.reads if t in moving)
    reached = tuple(name for name in sources if name in needed)
    if not reached:
        _check_refused(lowered, output)
        raise MethodError(
            f"`{output}` does not depend on {', '.join(sources) or 'any float input'}"
            f"{'' if wrt else _behind_integers(lowered, model, output)}"
        )
    on_way = frozenset(moving & needed)
    for node in reversed(nodes):  # behind what could not be spelled out no shape is known
        _check_node(node, on_way, lowered)
    return Path(tuple(reversed(nodes)), on_way, tuple(sources))


def _behind_integers(lowered: Lowered, model: Model, output: str) -> str:
    """Name the first floats that integer inputs (the ids of tokens) become: embeddings."""
    own = {t for node in model.nodes for t in node.outputs}
    reached = {n for n in model.inputs if n not in lowered.floats}
    needed, found = {output}, []
    for node in reversed(lowered.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.reads)
    for node in lowered.nodes:
        if reached.isdisjoint(node.reads):
            continue
        found += [t for t in node.outputs if t in lowered.floats and t in own & needed]
        reached.update(t for t in node.outputs if t not in lowered.floats)
    if not found:
        return ""
    names = ", ".join(f"`{t}`" for t in found[:3])
    return f"; integers have no derivative: name what they become with wrt=, such as {names}"


def _check_refused(lowered: Lowered, output: str) -> None:
    """Name what could not be spelled out on the way to an output."""
    needed, refused = {output}, None
    for node in reversed(lowered.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.reads)
            refused = node if node.name in lowered.reasons else refused
    if refused is not None:
        raise UnsupportedOperator(no_way_back(refused, f", {lowered.reasons[refused.name]}"))


def _check_node(node: Node, moving: frozenset[str], lowered: Lowered) -> None:
    operator = known(node.domain, node.op_type)
    if operator is None:
        reason = lowered.reasons.get(node.name, "")
        raise UnsupportedOperator(no_way_back(node, f", {reason}" if reason else ""))
    for slot in operator.fixed:
        if slot < len(node.inputs) and node.inputs[slot] in moving:
            reason = f" into its input {slot}, which depends on the model's input,"
            raise UnsupportedOperator(no_way_back(node, reason))
    for tensor in (*node.inputs, *node.outputs):
        if tensor and tensor in moving and tensor not in lowered.shapes:
            raise ModelError(f"{node}: the shape of `{tensor}` cannot be told beforehand")


def cam_layer(lowered: Lowered, path: Path, asked: str | None, output: str) -> str:
    """Return the tensor a CAM looks at.

    By default the spatial tensor that enters the final pooling or flatten: going up from the
    scores, the first with positions, and above the pools it came through.
    """
    made = {t: node for node in path.nodes for t in node.outputs}
    if asked is not None:
        if asked not in path.moving:
            raise MethodError(
                f"no tensor `{asked}` on the way{nearest(asked, sorted(path.moving))}"
            )
        return asked
    for node in reversed(path.nodes):
        first = next((t for t in node.inputs if t in path.moving), "")
        if _spatial(lowered, first) and not _spatial(lowered, node.outputs[0]):
            while first in made and made[first].kind == "pool" and node.kind != "pool":
                first = made[first].inputs[0]
            return first
    raise MethodError(f"no tensor before `{output}` has positions; name one with layer=")


def _spatial(lowered: Lowered, tensor: str) -> bool:
    shape = lowered.shapes.get(tensor, ())
    return len(shape) > 2 and any(n > 1 for n in shape[2:])
