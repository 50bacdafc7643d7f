"""ONNX Runtime's own operators of transformers, against its kernels."""

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.runtime import run_once
from tests.builders import weights
from tests.kernels import ENGINES, agrees, made

TOKENS = "(float[2,5,6] x) => (float[2,5,8] y)"


def attention_held():
    rng = np.random.default_rng(3)

    def some(*shape):
        return (rng.standard_normal(shape) / 2).astype(np.float32)

    return {
        "w": some(6, 24), "wb": some(24), "wv": some(6, 16), "wvb": some(16),
        "ends": np.array([3, 5], np.int32), "edges": np.array([4, 5, 1, 0], np.int32),
        "raw": np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 1]], np.int32),
        "raw3": (np.arange(50).reshape(2, 5, 5) % 3 > 0).astype(np.int32),
        "bias": some(1, 4, 5, 5), "past": some(2, 2, 4, 3, 2), "qkv": some(28),
        "pk": some(2, 4, 3, 2), "pv": some(2, 4, 3, 2),
    }  # fmt: skip


ATTENTION = {
    "plain": "y = com.microsoft.Attention<num_heads=4>(x, w, wb)",
    "scaled": "y = com.microsoft.Attention<num_heads=4, scale=0.3>(x, w, wb)",
    "causal": "y = com.microsoft.Attention<num_heads=4, unidirectional=1>(x, w, wb)",
    "ends": "y = com.microsoft.Attention<num_heads=4>(x, w, wb, ends)",
    "edges": "y = com.microsoft.Attention<num_heads=4>(x, w, wb, edges)",
    "mask": "y = com.microsoft.Attention<num_heads=4>(x, w, wb, raw)",
    "mask-of-three": "y = com.microsoft.Attention<num_heads=4>(x, w, wb, raw3)",
    "added": "y = com.microsoft.Attention<num_heads=4>(x, w, wb, , , bias)",
    "past": "y, kept = com.microsoft.Attention<num_heads=4>(x, w, wb, , past)",
    "past-causal": """y, kept = com.microsoft.Attention<num_heads=4, unidirectional=1>
        (x, w, wb, , past)""",
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name):
    proto, feeds = made(f"{TOKENS} {{ {ATTENTION[name]} }}", **attention_held())
    agrees(proto, feeds)


def test_attention_of_unequal_widths():
    body = """(float[2,5,6] x) => (float[2,5,4] y) {
        y = com.microsoft.Attention<num_heads=2, qkv_hidden_sizes=[6,6,4]>(x, wv, wvb) }"""
    agrees(*made(body, **attention_held()))


MULTI = {
    "three": """(float[2,5,8] x, float[2,3,8] u, float[2,3,12] v) => (float[2,5,12] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=4>(x, u, v) }""",
    "biased": """(float[2,5,8] x, float[2,3,8] u, float[2,3,12] v) => (float[2,5,12] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=4, scale=0.4>(x, u, v, qkv) }""",
    "causal": """(float[2,5,8] x, float[2,5,8] u, float[2,5,8] v) => (float[2,5,8] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=4, unidirectional=1>(x, u, v) }""",
    "packed": """(float[2,5,4,3,2] x) => (float[2,5,8] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=4>(x) }""",
    "packed-keys": """(float[2,5,8] x, float[2,3,4,2,2] u) => (float[2,5,8] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=4>(x, u) }""",
    "by-heads": """(float[2,5,8] x, float[2,4,3,2] u, float[2,4,3,2] v) => (float[2,5,8] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=4>(x, u, v) }""",
    "masked": """(float[2,5,8] x, float[2,5,8] u, float[2,5,8] v) => (float[2,5,8] y) {
        y = com.microsoft.MultiHeadAttention<num_heads=4>(x, u, v, , raw, bias) }""",
    "kept": """(float[2,5,8] x, float[2,5,8] u, float[2,5,8] v)
        => (float[2,5,8] y, float[2,4,8,2] k1, float[2,4,8,2] v1) {
        y, k1, v1 = com.microsoft.MultiHeadAttention<num_heads=4>(x, u, v, , , , pk, pv) }""",
}


@pytest.mark.parametrize("name", MULTI)
def test_multi_head_attention(name):
    kernel = "packed" not in name  # which the CPU provider has not
    agrees(*made(MULTI[name], **attention_held()), kernel=kernel)


def tables(places, pairs):
    angle = np.arange(places)[:, None] / 3.0 ** np.arange(pairs)
    return {"cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}


ROTARY = {
    "flat": """(float[2,3,8] x) => (float[2,3,8] y) {
        y = com.microsoft.RotaryEmbedding(x, first, cos, sin) }""",
    "by-heads": """(float[2,2,3,4] x) => (float[2,2,3,4] y) {
        y = com.microsoft.RotaryEmbedding(x, places, cos, sin) }""",
    "crossed": """(float[2,2,3,4] x) => (float[2,2,3,4] y) {
        y = com.microsoft.RotaryEmbedding<interleaved=1>(x, places, cos, sin) }""",
    "in-part": """(float[2,3,16] x) => (float[2,3,16] y) {
        y = com.microsoft.RotaryEmbedding<num_heads=2, rotary_embedding_dim=4>
            (x, places, cos, sin) }""",
}


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_embedding(name):
    held = {"first": np.array([2]), "places": np.array([[0, 1, 2], [4, 5, 6]]), **tables(8, 2)}
    agrees(*made(ROTARY[name], **held))


GROUPS = {
    "plain": """y = com.microsoft.GroupQueryAttention<num_heads=2, kv_num_heads=1>
        (x, u, v, , , last, total)""",
    "turned": """y = com.microsoft.GroupQueryAttention<num_heads=2, kv_num_heads=1, do_rotary=1>
        (x, u, v, , , last, total, cos, sin)""",
    "window": """y = com.microsoft.GroupQueryAttention<num_heads=2, kv_num_heads=1,
        local_window_size=2, softcap=1.5>(x, u, v, , , last, total)""",
}


@pytest.mark.parametrize("name", GROUPS)
def test_group_query_attention(name):
    held = {"last": np.array([4, 4], np.int32), "total": np.array(5, np.int32), **tables(8, 8)}
    body = f"""(float[2,5,32] x, float[2,5,16] u, float[2,5,16] v) => (float[2,5,32] y) {{
        {GROUPS[name].replace("y =", "y, k1, v1 =")} }}"""
    agrees(*made(body, **held))


def test_embeddings():
    """Words have no derivative; what is explained is the sum of their embeddings."""
    body = """(int32[2,4] words) => (float[2,3] y) {
        e, lengths, total = com.microsoft.EmbedLayerNormalization
            (words, parts, table, places, segments, g, k, mask)
        f = Flatten(e)  y = MatMul(f, v) }"""
    held = {
        "parts": np.array([[0, 0, 1, 1], [0, 1, 1, 1]], np.int32),
        "mask": np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32),
        **weights(3, table=(9, 6), places=(5, 6), segments=(2, 6), v=(24, 3), g=(6,), k=(6,)),
    }
    proto, _ = made(body, **held)
    words = np.array([[1, 5, 8, 0], [3, 3, 2, 7]], np.int32)
    theirs = run_once(proto, {"words": words}, ["y"])[0]
    for engine in ENGINES:
        e = ox.explain(proto, words, wrt="total", target=1, engine=engine)
        assert np.allclose(e.logits, theirs, atol=1e-5)
        assert e.attributions["total"].shape == (2, 4, 6)
        assert np.abs(e.residual).max() < 1e-5
