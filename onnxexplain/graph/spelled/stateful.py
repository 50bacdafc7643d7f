"""Operators that hand a state from one call to the next: linear attention, causal convolution."""

from dataclasses import dataclass

import numpy as np

from onnxexplain.graph.spelled._spelling import Scope, spelling

# ----- Causal convolution -----


@spelling("CausalConvWithState")
def causal_conv(scope: Scope) -> bool:
    """Every channel by itself, over what came before it: kept from earlier calls, or nothing."""
    x, weight, *more = scope.node.inputs
    bias, past = (*more, "", "")[:2]
    shape, kernel = scope.shape(x), scope.shape(weight)
    if shape is None or kernel is None:
        return False
    before = kernel[-1] - 1
    if not past:
        past = scope.constant(np.zeros((*shape[:2], before), np.float32))
    whole = scope.write("Concat", past, x, axis=2) if before else x
    y, outputs = scope.node.outputs[0], dict(enumerate(scope.node.outputs))
    plain = scope.node.attributes.get("activation", "none") == "none"
    inputs = [whole, weight, *([bias] if bias else [])]
    made = scope.write("Conv", *inputs, to=y if plain else "", group=shape[1])
    if not plain:
        scope.write("Mul", made, scope.write("Sigmoid", made), to=y)
    if outputs.get(1):
        end, start = shape[2] + before, shape[2]
        _cut(scope, whole, 2, start, end, outputs[1])
    return True


def _cut(scope: Scope, x: str, axis: int, start: int, end: int, to: str) -> None:
    bounds = (scope.constant(np.array([n])) for n in (start, end, axis))
    scope.write("Slice", x, *bounds, to=to)


# ----- Linear attention -----

NODES_PER_STEP = 12
"""About so many nodes a step takes."""

INPUTS = ("query", "key", "value", "past_state", "decay", "beta")


@dataclass(frozen=True)
class Sizes:
    """The sizes of a linear attention."""

    batch: int
    steps: int
    many: int
    shared: int
    """So many heads of keys and values, each with a state; it serves ``many // shared`` queries."""
    size: int
    value_size: int


@spelling("LinearAttention")
def linear_attention(scope: Scope) -> bool:
    """Step by step: the state forgets, takes up a key and its value, and is asked by a query."""
    given = {n: t for n, t in zip(INPUTS, scope.node.inputs, strict=False) if t}
    shapes = {n: scope.shape(t) for n, t in given.items()}
    q, v, said = shapes["query"], shapes["value"], scope.node.attributes
    if q is None or v is None or None in shapes.values():
        return False
    many, shared = said["q_num_heads"], said["kv_num_heads"]
    sizes = Sizes(q[0], q[1], many, shared, q[2] // many, v[2] // shared)
    if not scope.roomy(sizes.steps * NODES_PER_STEP):
        return False
    outputs = dict(enumerate(scope.node.outputs))
    last, read = _walk(scope, sizes, given)
    joined = scope.write("Concat", *read, axis=1) if len(read) > 1 else read[0]
    _shaped(scope, joined, (sizes.batch, sizes.steps, many * sizes.value_size), outputs[0])
    if outputs.get(1):
        scope.write("Identity", last, to=outputs[1])
    return True


def _walk(scope: Scope, sizes: Sizes, given: dict[str, str]) -> tuple[str, list[str]]:
    """Return the state after the last step, and what the query of every step reads."""
    group = (sizes.shared, sizes.many // sizes.shared)
    scale = scope.node.attributes.get("scale") or sizes.size**-0.5
    asking = scope.write("Mul", given["query"], scope.constant(float(scale)))
    queries = _by_step(scope, sizes, asking, (*group, sizes.size))
    keys = _by_step(scope, sizes, given["key"], (sizes.shared, sizes.size, 1))
    values = _by_step(scope, sizes, given["value"], (sizes.shared, 1, sizes.value_size))
    decays = betas = [""] * sizes.steps
    if "decay" in given:
        each = _last(scope, given["decay"]) // sizes.shared
        kept = scope.write("Exp", given["decay"])
        decays = _by_step(scope, sizes, kept, (sizes.shared, each, 1))
    if "beta" in given:
        betas = _by_step(scope, sizes, given["beta"], (_last(scope, given["beta"]), 1, 1))
    state = given.get("past_state", "")
    read = []
    for q, k, v, decay, beta in zip(queries, keys, values, decays, betas, strict=True):
        state = _step(scope, state, k, v, decay, beta)
        read.append(scope.write("MatMul", q, state))
    each_read = (sizes.batch, 1, sizes.many * sizes.value_size)
    return state, [_shaped(scope, o, each_read) for o in read]


def _step(scope: Scope, state: str, k: str, v: str, decay: str, beta: str) -> str:
    """Return the state [N,heads,size,value_size] after a key (a column) and a value (a row)."""
    if state and decay:
        state = scope.write("Mul", state, decay)
    if beta:
        if state:  # only what the state does not answer with already
            row = scope.write("Transpose", k, perm=[0, 1, 3, 2])
            v = scope.write("Sub", v, scope.write("MatMul", row, state))
        v = scope.write("Mul", beta, v)
    added = scope.write("Mul", k, v)
    return scope.write("Add", state, added) if state else added


def _by_step(scope: Scope, sizes: Sizes, x: str, shape: tuple[int, ...]) -> list[str]:
    """[N,steps,width] as one tensor [N,*shape] per step."""
    if sizes.steps == 1:
        return [_shaped(scope, x, (sizes.batch, *shape))]
    each = scope.constant(np.ones(sizes.steps, np.int64))
    parts = scope.write_all("Split", x, each, to=[""] * sizes.steps, axis=1)
    return [_shaped(scope, part, (sizes.batch, *shape)) for part in parts]


def _last(scope: Scope, x: str) -> int:
    shape = scope.shape(x)
    return shape[-1] if shape else 1


def _shaped(scope: Scope, x: str, sizes: tuple[int, ...], to: str = "") -> str:
    return scope.write("Reshape", x, scope.constant(np.array(sizes, np.int64)), to=to)
