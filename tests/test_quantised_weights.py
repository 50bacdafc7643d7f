"""Weights of a few bits, and quantised layers of transformers."""

import numpy as np
import pytest

import onnxexplain as ox
from onnxexplain.runtime import run_once
from tests.builders import net, weights
from tests.grids import numbers, x_of
from tests.test_quantised import GRIDS, MICROSOFT

# ----- Weights of a few bits -----


@pytest.mark.parametrize(
    ("bits", "zeros"),
    [(b, z) for b in (2, 4, 8) for z in ("none", "packed", "floats") if (b, z) != (8, "floats")],
)
def test_weights_packed_into_bits(bits, zeros):
    """A column's weights in blocks of 16, the last of which is cut short."""
    inner, many, size = 40, 3, 16
    blocks = -(-inner // size)
    rng = np.random.default_rng(0)
    held = {
        "w": rng.integers(0, 256, (many, blocks, size * bits // 8), dtype=np.uint8),
        "s": rng.uniform(0.01, 0.05, many * blocks).astype(np.float32),
        "c": rng.standard_normal(many).astype(np.float32),
    }
    given = "x, w, s"
    if zeros == "packed":
        per_column = -(-blocks * bits // 8)
        held["z"] = rng.integers(0, 256, many * per_column, dtype=np.uint8)
        given += ", z, , c"
    elif zeros == "floats":
        held["z"] = rng.uniform(0, 1 << bits, many * blocks).astype(np.float32)
        given += ", z"
    said = f"K={inner}, N={many}, bits={bits}, block_size={size}"
    proto = net(
        f"""(float[2,{inner}] x) => (float[2,{many}] y) {{
            y = com.microsoft.MatMulNBits<{said}>({given}) }}""",
        domain=MICROSOFT,
        **{n: v for n, v in held.items() if n in given},
    )
    x = x_of(2, inner)
    theirs = run_once(proto, {"x": x}, ["y"])[0]
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, x, engine=engine, target=1)
        assert np.allclose(e.logits, theirs, atol=1e-4)
        assert e.attributions["x"].sum(1) + e.constant == pytest.approx(e.score, abs=1e-4)


# ----- Whole layers of transformers -----


def test_quantised_attention():
    rng = np.random.default_rng(2)
    proto = net(
        """(float[1,4,6] x) => (float[1,4,8] y) { a = QuantizeLinear(x, s1, z1)
            y = com.microsoft.QAttention<num_heads=2>(a, w, b, s1, s2, mask, z1, i1) }""",
        domain=MICROSOFT,
        w=numbers(6, 24),
        b=rng.standard_normal(24).astype(np.float32),
        mask=np.array([3], np.int32),
        **{n: GRIDS[n] for n in ("s1", "z1", "s2", "i1")},
    )
    x = x_of(1, 4, 6)
    theirs = run_once(proto, {"x": x}, ["y"])[0]
    seed = rng.standard_normal(theirs.shape)
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, x, engine=engine, target=seed)
        assert np.allclose(e.logits, theirs, atol=1e-4)
        assert np.abs(e.residual).max() < 1e-5


def test_quantised_embeddings():
    rng = np.random.default_rng(2)
    tables = {"word": (9, 6), "place": (5, 6), "part": (2, 6), "gamma": (6,), "beta": (6,)}
    held = {n: rng.integers(0, 256, s, dtype=np.uint8) for n, s in tables.items()}
    held |= {f"{n}_s": np.float32(0.01 + 0.005 * i) for i, n in enumerate(tables)}
    held |= {f"{n}_z": np.uint8(100 + 9 * i) for i, n in enumerate(tables)}
    given = ["words", "parts", *tables, "mask", *(f"{n}_s" for n in tables)]
    given += [f"{n}_z" for n in tables]
    proto = net(
        f"""(int32[1,4] words) => (float[1,3] y) {{
            e, n = com.microsoft.QEmbedLayerNormalization({", ".join(given)})
            f = Flatten(e)  y = MatMul(f, v) }}""",
        domain=MICROSOFT,
        parts=np.array([[0, 0, 1, 1]], np.int32),
        mask=np.array([[1, 1, 1, 0]], np.int32),
        **held,
        **weights(1, v=(24, 3)),
    )
    words = np.array([[1, 5, 8, 0]], np.int32)
    theirs = run_once(proto, {"words": words}, ["y"])[0]
    for engine in ("eager", "compiled"):
        e = ox.explain(proto, words, engine=engine, wrt="e", target=1)
        assert np.allclose(e.logits, theirs, atol=1e-4)
        assert np.abs(e.residual).max() < 1e-5
