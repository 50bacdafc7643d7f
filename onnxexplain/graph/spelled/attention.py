"""Attention in matrix products and a softmax.

What a mask forbids is left out by a choice, not by adding minus infinity: so nothing is sent back
to it, and a query that may attend to nothing at all gives zeros and no NaN.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from onnxexplain.graph.spelled._body import Body
from onnxexplain.graph.spelled._mask import Mask
from onnxexplain.graph.spelled._spelling import Scope, spelling

INPUTS = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
RAW, CAPPED, MASKED, WEIGHTS = range(4)
"""What the fourth output may hold: ``qk_matmul_output_mode``."""


@dataclass(frozen=True)
class Heads:
    """The sizes of an attention: samples, query and key heads, queries, keys, sizes of a head."""

    batch: int
    many: int
    shared: int
    """So many heads of keys and values; each serves ``many // shared`` heads of queries."""
    queries: int
    past: int
    """So many keys stand before the first query, kept of earlier steps."""
    keys: int
    size: int
    value_size: int

    @property
    def grouped(self) -> bool:
        """Whether several heads of queries share one of keys."""
        return self.many != self.shared

    def rows(self, last: int) -> list[int]:
        """A shape in which all queries that meet the same keys stand below one another."""
        return [self.batch, self.shared, self.many // self.shared * self.queries, last]

    def apart(self, last: int) -> list[int]:
        """A shape in which every head of queries stands alone."""
        return [self.batch, self.many, self.queries, last]


@spelling("Attention")
def attention(scope: Scope) -> bool:
    """Scores of queries and keys, capped, masked, brought to weights; the values' weighted sum."""
    given = {n: t for n, t in zip(INPUTS, scope.node.inputs, strict=False) if t}
    heads = _heads(scope, given)
    mask = None if heads is None else _mask(scope, given, heads)
    if heads is None or mask is None:
        return False
    said, outputs = scope.node.attributes, dict(enumerate(scope.node.outputs))
    q = _by_heads(scope, given["Q"], heads.many)
    k, v = (_by_heads(scope, given[n], heads.shared) for n in "KV")
    k = _behind(scope, k, given.get("past_key"), outputs.get(1, ""))
    v = _behind(scope, v, given.get("past_value"), outputs.get(2, ""))
    shown = said.get("qk_matmul_output_mode", RAW) if outputs.get(3) else None
    scores = product(scope, heads, q, k, said.get("scale", heads.size**-0.5))
    stages = {RAW: scores, CAPPED: _capped(scope, scores, said.get("softcap", 0.0))}
    scores = stages[CAPPED]
    if mask.added:
        scores = scope.write("Add", scores, mask.added)
    if shown == MASKED:
        stages[MASKED] = mask.leave_out(scores)
    stages[WEIGHTS] = mask.weights(scores)
    if shown is not None:
        scope.write("Identity", stages[shown], to=outputs[3])
    y = values(scope, heads, stages[WEIGHTS], v)
    if len(scope.shape(given["Q"]) or ()) == 3:
        y = scope.write("Transpose", y, perm=[0, 2, 1, 3])
        width = heads.many * heads.value_size
        y = _shaped(scope, y, [heads.batch, heads.queries, width])
    scope.write("Identity", y, to=outputs[0])
    return True


@spelling("FlexAttention", domain="ai.onnx.preview")
def flex_attention(scope: Scope) -> bool:
    """Scores and weights, each as the graph given for it makes them."""
    given = dict(zip(INPUTS, scope.node.inputs, strict=False))
    heads = _heads(scope, given)
    if heads is None:
        return False
    said = scope.node.attributes
    scores = product(scope, heads, given["Q"], given["K"], said.get("scale", heads.size**-0.5))
    if "score_mod" in said:
        scores = _modified(scope, said["score_mod"], scores)
    weights = scope.write("Softmax", scores, axis=-1)
    if "prob_mod" in said:
        weights = _modified(scope, said["prob_mod"], weights)
    scope.write("Identity", values(scope, heads, weights, given["V"]), to=scope.node.outputs[0])
    return True


def _modified(scope: Scope, graph: onnx.GraphProto, x: str) -> str:
    return Body.of(scope, graph).write({graph.input[0].name: x})[0]


# ----- Keys and queries, weights and values -----


def product(scope: Scope, heads: Heads, q: str, k: str, scale: float) -> str:
    """Return the scores [N,heads,queries,keys]."""
    q = scope.write("Mul", q, scope.constant(float(scale)))
    if heads.grouped:
        q = _shaped(scope, q, heads.rows(heads.size))
    scores = scope.write("MatMul", q, scope.write("Transpose", k, perm=[0, 1, 3, 2]))
    return _shaped(scope, scores, heads.apart(heads.keys)) if heads.grouped else scores


def values(scope: Scope, heads: Heads, weights: str, v: str) -> str:
    """Return what every query gets [N,heads,queries,value_size]."""
    if heads.grouped:
        weights = _shaped(scope, weights, heads.rows(heads.keys))
    y = scope.write("MatMul", weights, v)
    return _shaped(scope, y, heads.apart(heads.value_size)) if heads.grouped else y


def _capped(scope: Scope, scores: str, cap: float) -> str:
    if not cap:
        return scores
    limit = scope.constant(float(cap))
    return scope.write("Mul", scope.write("Tanh", scope.write("Div", scores, limit)), limit)


def _shaped(scope: Scope, x: str, sizes: list[int]) -> str:
    return scope.write("Reshape", x, scope.constant(np.array(sizes, np.int64)))


# ----- Inputs -----


def _heads(scope: Scope, given: dict[str, str]) -> Heads | None:
    """Return the sizes; None where they are not known yet."""
    q, k, v = (scope.shape(given[n]) for n in "QKV")
    past = scope.shape(given["past_key"]) if "past_key" in given else (0, 0, 0, 0)
    if q is None or k is None or v is None or past is None:
        return None
    if len(q) == 4:
        return Heads(q[0], q[1], k[1], q[2], past[2], past[2] + k[2], q[3], v[3])
    many, shared = (scope.node.attributes[f"{n}_num_heads"] for n in ("q", "kv"))
    sizes = q[2] // many, v[2] // shared
    return Heads(q[0], many, shared, q[1], past[2], past[2] + k[1], *sizes)


def _by_heads(scope: Scope, x: str, many: int) -> str:
    """[N,length,heads*size] as [N,heads,length,size]."""
    shape = scope.shape(x) or ()
    if len(shape) == 4:
        return x
    apart = _shaped(scope, x, [*shape[:2], many, shape[2] // many])
    return scope.write("Transpose", apart, perm=[0, 2, 1, 3])


def _behind(scope: Scope, x: str, past: str | None, to: str) -> str:
    """``x`` behind what was kept of earlier steps; it is what is kept from now on."""
    if past is not None:
        return scope.write("Concat", past, x, to=to, axis=2)
    return scope.write("Identity", x, to=to) if to else x


def _mask(scope: Scope, given: dict[str, str], heads: Heads) -> Mask | None:
    """Return what queries may attend to; None where a mask's shape is not known yet."""
    mask, said = Mask(scope, heads.queries, heads.keys), scope.node.attributes
    if "attn_mask" in given and not mask.give(given["attn_mask"]):
        return None
    left, right = said.get("left_window_size", -1), said.get("right_window_size", -1)
    causal = bool(said.get("is_causal"))
    limits = {
        "least": max([0] * causal + [-right] * (right >= 0), default=None),
        "most": left if left >= 0 else None,
    }
    filled = given.get("nonpad_kv_seqlen", "")
    mask.within(heads.past, filled, **limits)
    if filled:
        mask.before(filled)
    return mask
