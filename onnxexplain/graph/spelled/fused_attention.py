"""ONNX Runtime's attentions: with the projections before them, by heads, by groups of heads."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxexplain.graph.spelled._spelling import Scope, spelling
from onnxexplain.graph.spelled.attention import Heads, product, values
from onnxexplain.graph.spelled.microsoft import DOMAIN, put
from onnxexplain.graph.spelled.transformers import by_heads, shaped, turned

Array = np.ndarray[Any, Any]

FORBIDDEN = -10000.0
"""What is added to the score of a key that a mask forbids, unless the node says otherwise."""


@dataclass(frozen=True)
class Parts:
    """Queries, keys and values by heads: [N,heads,length,size]."""

    q: str
    k: str
    v: str
    heads: Heads


@spelling("Attention", domain=DOMAIN)
def attention(scope: Scope) -> bool:
    """Queries, keys and values projected from one tensor, and their attention."""
    x, weight, bias, mask, past, added = (put(scope, slot) for slot in range(6))
    shape, sizes = scope.shape(x), scope.shape(weight)
    before = scope.shape(past) if past else (2, 0, 0, 0, 0)
    if shape is None or sizes is None or before is None:
        return False
    said = scope.node.attributes
    if said.get("do_rotary") or said.get("past_present_share_buffer"):
        return scope.refuse("with positions turned, or a cache that is shared")
    many = said["num_heads"]
    widths = list(said.get("qkv_hidden_sizes") or [sizes[1] // 3] * 3)
    projected = scope.write("MatMul", x, weight)
    if bias:
        projected = scope.write("Add", projected, bias)
    split = scope.constant(np.array(widths))
    wide = scope.write_all("Split", projected, split, to=["", "", ""], axis=-1)
    q, k, v = (
        by_heads(scope, t, (*shape[:2], n), n // many) for t, n in zip(wide, widths, strict=True)
    )
    if past:
        former = scope.write_all("Split", past, to=["", ""], axis=0, num_outputs=2)
        first = scope.constant(np.array([0]))
        former = [scope.write("Squeeze", t, first) for t in former]
        k, v = (scope.write("Concat", f, t, axis=2) for f, t in zip(former, (k, v), strict=True))
    if len(scope.node.outputs) > 1 and scope.node.outputs[1]:
        first = scope.constant(np.array([0]))
        both = [scope.write("Unsqueeze", t, first) for t in (k, v)]
        scope.write("Concat", *both, to=scope.node.outputs[1], axis=0)
    length, kept = shape[1], before[3]
    head, value = widths[0] // many, widths[2] // many
    heads = Heads(shape[0], many, many, length, kept, kept + length, head, value)
    return _attend(scope, Parts(q, k, v, heads), mask, added)


@spelling("MultiHeadAttention", domain=DOMAIN)
def multi_head_attention(scope: Scope) -> bool:
    """Attention of queries, keys and values that are projected by then, in any arrangement."""
    parts = _arranged(scope)
    return parts is not None and _attend(scope, parts, put(scope, 4), put(scope, 5))


@spelling("GroupQueryAttention", domain=DOMAIN)
def group_query_attention(scope: Scope) -> bool:
    """Several heads of queries to one of keys, each key before its query; a prompt, no cache."""
    said, shape = scope.node.attributes, scope.shape(put(scope, 0))
    past = scope.shape(put(scope, 3)) if put(scope, 3) else (0, 0, 0, 0)
    lengths, total = scope.value(put(scope, 5)), scope.value(put(scope, 6))
    if shape is None or past is None:
        return False
    if lengths is None or total is None or any(put(scope, slot) for slot in range(11, 16)):
        return scope.refuse("with lengths that depend on the input, sinks, or a cache in integers")
    if past[2] or int(total.max()) != shape[1] or bool((lengths + 1 != shape[1]).any()):
        return scope.refuse("with keys kept of earlier steps, or samples of several lengths")
    if said.get("smooth_softmax") or not said.get("causal", 1):
        return scope.refuse("with a softmax of its own, or keys behind their query")
    many, shared = said["num_heads"], said["kv_num_heads"]
    wide = list(scope.node.inputs[:3])
    if not put(scope, 1):
        size = shape[2] // (many + 2 * shared)
        widths = scope.constant(np.array([many * size, shared * size, shared * size]))
        wide = scope.write_all("Split", wide[0], widths, to=["", "", ""], axis=-1)
    else:
        size = shape[2] // many
    q, k, v = (
        by_heads(scope, t, (*shape[:2], n * size), size)
        for t, n in zip(wide, (many, shared, shared), strict=True)
    )
    if said.get("do_rotary"):
        positions = put(scope, 9) or scope.constant(np.arange(shape[1])[None])
        tables = put(scope, 7), put(scope, 8)
        crossed = bool(said.get("rotary_interleaved"))
        q, k = (turned(scope, t, positions, *tables, crossed) for t in (q, k))
    for slot, t in ((1, k), (2, v)):
        if slot < len(scope.node.outputs) and scope.node.outputs[slot]:
            scope.write("Identity", t, to=scope.node.outputs[slot])
    heads = Heads(shape[0], many, shared, shape[1], 0, shape[1], size, size)
    return _attend(scope, Parts(q, k, v, heads), "", put(scope, 10), causal=True)


# ----- Arrangements -----


def _arranged(scope: Scope) -> Parts | None:
    """Return the parts of a MultiHeadAttention; None where they are not known yet."""
    many = scope.node.attributes["num_heads"]
    q, k, v = (put(scope, slot) for slot in range(3))
    given = [scope.shape(t) for t in (q, k, v) if t]
    if any(shape is None for shape in given):
        return None
    if len(scope.shape(q) or ()) == 5:  # [N,length,heads,3,size]
        q, k, v = _unpacked(scope, q, 3)
    else:
        bias = _biases(scope)
        q = _headed(scope, q, bias[0], many)
        if not v:  # [N,length,heads,2,size]
            k, v = _unpacked(scope, k, 2)
        elif len(scope.shape(k) or ()) == 3:
            k, v = _headed(scope, k, bias[1], many), _headed(scope, v, bias[2], many)
    sizes = _sizes(scope, many)
    for slot, t in ((6, "k"), (7, "v")):
        former, to = put(scope, slot), (*scope.node.outputs, "", "")[slot - 5]
        now = k if t == "k" else v
        if former:
            now = scope.write("Concat", former, now, to=to, axis=2)
        elif to:
            now = scope.write("Identity", now, to=to)
        k, v = (now, v) if t == "k" else (k, now)
    return Parts(q, k, v, sizes)


def _sizes(scope: Scope, many: int) -> Heads:
    q, k, v, past = (scope.shape(put(scope, slot)) or () for slot in (0, 1, 2, 6))
    kept = past[2] if past else 0
    if len(q) == 5:
        return Heads(q[0], many, many, q[1], kept, kept + q[1], q[4], q[4])
    size = q[2] // many
    if len(k) == 3:
        return Heads(q[0], many, many, q[1], kept, kept + k[1], size, v[2] // many)
    length, value = (k[1], k[4]) if len(k) == 5 else (k[2], v[3])
    return Heads(q[0], many, many, q[1], kept, kept + length, size, value)


def _unpacked(scope: Scope, x: str, many: int) -> list[str]:
    """[N,length,heads,many,size] as so many [N,heads,length,size]."""
    axis = scope.constant(np.array([3]))
    parts = scope.write_all("Split", x, to=[""] * many, axis=3, num_outputs=many)
    return [
        scope.write("Transpose", scope.write("Squeeze", part, axis), perm=[0, 2, 1, 3])
        for part in parts
    ]


def _biases(scope: Scope) -> list[str]:
    """The biases of queries, keys and values, which stand behind one another."""
    q, _, v = (scope.shape(put(scope, slot)) or () for slot in range(3))
    if not put(scope, 3):
        return ["", "", ""]
    widths = [q[-1], q[-1], v[-1] if len(v) == 3 else q[-1]]
    return scope.write_all(
        "Split", put(scope, 3), scope.constant(np.array(widths)), to=["", "", ""], axis=0
    )


def _headed(scope: Scope, x: str, bias: str, many: int) -> str:
    shape = scope.shape(x) or ()
    x = scope.write("Add", x, bias) if bias else x
    return by_heads(scope, x, shape, shape[2] // many)


# ----- Scores, masks, weights -----


def _attend(
    scope: Scope, parts: Parts, mask: str, added: str, *, causal: bool | None = None
) -> bool:
    said, heads = scope.node.attributes, parts.heads
    scale = said.get("scale", 0.0) or heads.size**-0.5
    scores = product(scope, heads, parts.q, parts.k, scale)
    if cap := said.get("softcap", 0.0):
        limit = scope.constant(float(cap))
        scores = scope.write("Mul", scope.write("Tanh", scope.write("Div", scores, limit)), limit)
    if added:
        scores = scope.write("Add", scores, added)
    if mask:
        barred = _masked(scope, mask, heads)
        if barred is None:
            return False
        scores = scope.write("Add", scores, barred) if barred else scores
    order = _order(heads, causal or bool(said.get("unidirectional")), said)
    if order is not None:
        scores = scope.write("Where", scope.constant(order), scores, scope.constant(-np.inf))
    weights = scope.write("Softmax", scores, axis=-1)
    y = scope.write("Transpose", values(scope, heads, weights, parts.v), perm=[0, 2, 1, 3])
    width = heads.many * heads.value_size
    joined = scope.constant(np.array([heads.batch, heads.queries, width]))
    scope.write("Reshape", y, joined, to=scope.node.outputs[0])
    return True


def _order(heads: Heads, causal: bool, said: dict[str, int]) -> Array | None:
    """Where a key may be read for its place alone; None where all may."""
    apart = np.arange(heads.queries)[:, None] + heads.past - np.arange(heads.keys)
    window = said.get("local_window_size", -1)
    open_ = np.ones_like(apart, bool)
    if causal:
        open_ &= apart >= 0
    if window > 0:
        open_ &= apart < window
    return None if open_.all() else open_


def _masked(scope: Scope, mask: str, heads: Heads) -> str | None:
    """What a mask adds to the scores; empty for nothing, None where its shape is not known yet."""
    shape = scope.shape(mask)
    if shape is None:
        return None
    forbidden = scope.constant(float(scope.node.attributes.get("mask_filter_value", FORBIDDEN)))
    free, places = scope.constant(0.0), np.arange(heads.keys)[None]
    none = scope.write("CastLike", scope.constant(np.array([0])), mask)
    if len(shape) == 1:  # where each sample ends and, behind that, where it begins
        at = scope.write("CastLike", scope.constant(places), mask)
        edges = shaped(scope, mask, -1, heads.batch, 1)
        ends, starts = (scope.constant(np.array(edge)) for edge in (0, 1))
        open_ = scope.write("Less", at, scope.write("Gather", edges, ends, axis=0))
        if shape[0] == 2 * heads.batch:
            behind = scope.write("Gather", edges, starts, axis=0)
            open_ = scope.write("And", open_, scope.write("GreaterOrEqual", at, behind))
    elif len(shape) == 2 and shape[1] == 1 and heads.keys > 1:
        return ""  # stands for no mask
    elif len(shape) in (2, 3):
        open_ = scope.write("Greater", mask, none)
    else:
        scope.refuse("with a mask of four axes")
        return None
    open_ = shaped(scope, open_, heads.batch, 1, -1, heads.keys)
    return scope.write("Where", open_, free, forbidden)
