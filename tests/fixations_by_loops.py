"""CNN fixations with plain loops, one element at a time: what the method is judged by."""

import itertools

import numpy as np
from onnx import numpy_helper

from onnxexplain.graph import lower
from onnxexplain.runtime import evaluate, newest, run_once


def fixations(proto, x, start, locate="contribution"):
    """Return, by tensor, the set of (index, sign) that a walk down from ``start`` of ``y`` visits.

    For one sample, in float64, and the operators below. Constants are initialisers; the skip of a
    residual sum is its addend that the other depends on.
    """
    held = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    lowered = lower(proto, {"x": x.shape}, run_once, "float64", newest())
    made = [t for node in lowered.nodes for t in node.outputs]
    values = evaluate(lowered.proto, {"x": x.astype(np.float64)}, made)
    values |= {"x": x.astype(np.float64)} | {n: v.astype(np.float64) for n, v in held.items()}
    found = {"y": {(start, 1)}}
    nodes = list(lowered.nodes)
    for node in reversed(nodes):
        for index, sign in sorted(found.get(node.outputs[0], ())):
            for tensor, where, way in RULES[node.op_type](
                node, index, sign, values, locate=locate, nodes=nodes
            ):
                found.setdefault(tensor, set()).add((where, way))
    return found


def side(value):
    return -1 if value < 0 else 1


def _window(node, at, sizes, kernel):
    """Every place of a window that is no padding, with its place in the kernel."""
    rank = len(sizes)
    strides = node.attributes.get("strides") or [1] * rank
    dilations = node.attributes.get("dilations") or [1] * rank
    pads = node.attributes.get("pads") or [0] * (2 * rank)
    for tap in itertools.product(*map(range, kernel)):
        place = tuple(at[i] * strides[i] - pads[i] + tap[i] * dilations[i] for i in range(rank))
        if all(0 <= p < n for p, n in zip(place, sizes, strict=True)):
            yield place, tap


def conv(node, index, sign, values, *, locate, **_):
    x, w = values[node.inputs[0]], values[node.inputs[1]]
    n, o, *at = index
    group = node.attributes.get("group", 1)
    inner = w.shape[1]
    first = o // (w.shape[0] // group) * inner
    window = list(_window(node, at, x.shape[2:], w.shape[2:]))
    best, most = None, -np.inf
    for c in range(inner):
        total = sum(sign * x[(n, first + c, *p)] * w[(o, c, *t)] for p, t in window)
        if total > most:
            best, most = c, total
    middle = [(k - 1) / 2 for k in w.shape[2:]]
    wanted = {
        "contribution": lambda p, t: sign * x[(n, first + best, *p)] * w[(o, best, *t)],
        "activation": lambda p, t: x[(n, first + best, *p)],
        "centre": lambda p, t: -sum((a - b) ** 2 for a, b in zip(t, middle, strict=True)),
    }[locate]
    place, most = None, -np.inf
    for p, t in window:
        if wanted(p, t) > most:
            place, most = p, wanted(p, t)
    where = (n, first + best, *place)
    yield node.inputs[0], where, side(x[where])


def gemm(node, index, sign, values, *, nodes, **_):
    x, w = values[node.inputs[0]], values[node.inputs[1]]
    n, i = index
    given = [sign * x[n, j] * w[i, j] for j in range(x.shape[1])]
    chosen = [j for j, c in enumerate(given) if c > 0]
    above = next((m for m in nodes if m.outputs[0] == node.inputs[0]), None)
    if above is not None and above.op_type == "Flatten":
        places = np.prod(values[above.inputs[0]].shape[2:])
        chosen = [] if places > 1 else chosen
    for j in chosen or [int(np.argmax(given))]:
        yield node.inputs[0], (n, j), side(x[n, j])


def flatten(node, index, sign, values, **_):
    shape = values[node.inputs[0]].shape
    where = np.unravel_index(index[1], shape[1:])
    yield node.inputs[0], (index[0], *map(int, where)), sign


def pool(node, index, sign, values, **_):
    x = values[node.inputs[0]]
    n, c, *at = index
    if node.op_type.startswith("Global"):
        window = itertools.product(*map(range, x.shape[2:]))
    else:
        window = (p for p, _ in _window(node, at, x.shape[2:], node.attributes["kernel_shape"]))
    way = 1 if "Max" in node.op_type else sign
    best, most = None, -np.inf
    for p in window:
        if way * x[(n, c, *p)] > most:
            best, most = p, way * x[(n, c, *p)]
    yield node.inputs[0], (n, c, *best), sign


def add(node, index, sign, values, *, nodes, **_):
    a, b = node.inputs
    skip, delta = (b, a) if _depends(a, b, nodes) else (a, b)
    follow = skip if sign * values[skip][index] >= sign * values[delta][index] else delta
    yield follow, index, sign


def _depends(tensor, on, nodes):
    for node in nodes:
        if tensor in node.outputs:
            return any(t == on or _depends(t, on, nodes) for t in node.inputs)
    return False


def concat(node, index, sign, values, **_):
    n, c, *at = index
    for tensor in node.inputs:
        many = values[tensor].shape[1]
        if c < many:
            yield tensor, (n, c, *at), sign
            return
        c -= many


def batch_norm(node, index, sign, values, **_):
    yield node.inputs[0], index, sign * int(np.sign(values[node.inputs[1]][index[1]]))


def passed(node, index, sign, values, **_):
    yield node.inputs[0], index, sign


RULES = {
    "Conv": conv,
    "Gemm": gemm,
    "Flatten": flatten,
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalAveragePool": pool,
    "GlobalMaxPool": pool,
    "Add": add,
    "Concat": concat,
    "BatchNormalization": batch_norm,
    "Relu": passed,
    "LeakyRelu": passed,
    "Identity": passed,
}
