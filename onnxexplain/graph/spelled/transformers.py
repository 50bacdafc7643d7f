"""What ONNX Runtime makes of transformers: embeddings, normalisations, positions as one node."""

import numpy as np

from onnxexplain.graph.spelled._spelling import Scope, spelling
from onnxexplain.graph.spelled.microsoft import DOMAIN, put

# ----- Normalisations -----


@spelling("LayerNormalization", domain=DOMAIN)
def layer_normalization(scope: Scope) -> bool:
    """The standard's, before it was in the standard."""
    said = scope.node.attributes
    scope.write_all("LayerNormalization", *scope.node.inputs, to=scope.node.outputs, **said)
    return True


@spelling("SimplifiedLayerNormalization")
@spelling("SimplifiedLayerNormalization", domain=DOMAIN)
def simplified_layer_normalization(scope: Scope) -> bool:
    """RMSNormalization, before it was in the standard."""
    if any(scope.node.outputs[1:]):
        return scope.refuse("whose statistics are outputs")
    said = scope.node.attributes
    scope.write("RMSNormalization", *scope.node.inputs, to=scope.node.outputs[0], **said)
    return True


def _skipped(name: str, op_type: str, last: int) -> None:
    """A normalisation of a sum, which may be an output as well; a bias stands at ``last``."""

    @spelling(name, domain=DOMAIN)
    def spell(scope: Scope) -> bool:
        outputs = [*scope.node.outputs, "", "", ""][:4]
        statistics = outputs[1:3] if any(outputs[1:3]) else []
        if statistics and op_type != "LayerNormalization":
            return scope.refuse("whose statistics are outputs")
        terms = [put(scope, slot) for slot in (0, 1, last) if put(scope, slot)]
        total = scope.write("Sum", *terms, to=outputs[3])
        given = [t for t in scope.node.inputs[2:last] if t]
        epsilon = scope.node.attributes.get("epsilon", 1e-12)
        scope.write_all(op_type, total, *given, to=[outputs[0], *statistics], epsilon=epsilon)
        return True


_skipped("SkipLayerNormalization", "LayerNormalization", 4)
_skipped("SkipSimplifiedLayerNormalization", "RMSNormalization", 3)


# ----- Embeddings -----


@spelling("EmbedLayerNormalization", domain=DOMAIN)
def embed_layer_normalization(scope: Scope) -> bool:
    """The embeddings of words, of positions and of segments added up and normalised."""
    words, segments, table, places, parts, gamma, beta, mask, positions = (
        put(scope, slot) for slot in range(9)
    )
    shape = scope.shape(words)
    if shape is None:
        return False
    normalised, lengths, total = [*scope.node.outputs, "", ""][:3]
    positions = positions or scope.constant(np.arange(shape[1])[None])
    terms = [scope.write("Gather", table, words), scope.write("Gather", places, positions)]
    if segments:
        terms.append(scope.write("Gather", parts, segments))
    total = scope.write("Sum", *terms, to=total)
    epsilon = scope.node.attributes.get("epsilon", 1e-12)
    scope.write("LayerNormalization", total, gamma, beta, to=normalised, epsilon=epsilon)
    if lengths and mask:
        scope.write("ReduceSum", mask, scope.constant(np.array([1])), to=lengths, keepdims=0)
    elif lengths:
        scope.write("Identity", scope.constant(np.zeros(shape[0], np.int32)), to=lengths)
    return True


# ----- Positions -----


@spelling("RotaryEmbedding", domain=DOMAIN)
def rotary_embedding(scope: Scope) -> bool:
    """Pairs of elements turned by an angle that goes with their position."""
    x, positions, cos, sin = scope.node.inputs
    said, shape, cache = scope.node.attributes, scope.shape(x), scope.shape(cos)
    places = scope.shape(positions)
    if shape is None or cache is None or places is None:
        return False
    if said.get("is_packed_batching"):
        return scope.refuse("of samples packed into one")
    if len(shape) == 4:
        apart, length = x, shape[2]
    else:
        size = shape[2] // said["num_heads"] if said.get("num_heads") else 2 * cache[1]
        apart, length = by_heads(scope, x, shape, size), shape[1]
    if places == (1,):  # where the first one stands
        steps = scope.write("CastLike", scope.constant(np.arange(length)), positions)
        positions = scope.write("Add", positions, steps)
        positions = shaped(scope, positions, 1, -1)
    y = turned(scope, apart, positions, cos, sin, bool(said.get("interleaved")))
    if len(shape) == 3:
        y = shaped(scope, scope.write("Transpose", y, perm=[0, 2, 1, 3]), *shape)
    scope.write("Identity", y, to=scope.node.outputs[0])
    return True


def turned(scope: Scope, x: str, positions: str, cos: str, sin: str, interleaved: bool) -> str:
    """Turn the elements [N,heads,length,size] that the tables [places,pairs] reach."""
    pairs = (scope.shape(cos) or (0, 0))[1]
    left, rest = 2 * pairs, scope.constant(np.array([np.iinfo(np.int64).max]))
    last, nought = scope.constant(np.array([-1])), scope.constant(np.array([0]))
    cut = scope.constant(np.array([left]))
    head = scope.write("Slice", x, nought, cut, last)
    tail = scope.write("Slice", x, cut, rest, last)
    heads = scope.constant(np.array([1]))
    angles = [
        scope.write("Unsqueeze", scope.write("Gather", table, positions), heads)
        for table in (cos, sin)
    ]
    if interleaved:  # the first of each pair, then the second
        order = np.concatenate([np.arange(0, left, 2), np.arange(1, left, 2)])
        head = scope.write("Gather", head, scope.constant(order), axis=-1)
    one, other = scope.write_all("Split", head, to=["", ""], axis=-1, num_outputs=2)
    products = [[scope.write("Mul", half, angle) for angle in angles] for half in (one, other)]
    head = scope.write(
        "Concat",
        scope.write("Sub", products[0][0], products[1][1]),
        scope.write("Add", products[0][1], products[1][0]),
        axis=-1,
    )
    if interleaved:
        back = scope.constant(np.argsort(order))
        head = scope.write("Gather", head, back, axis=-1)
    return scope.write("Concat", head, tail, axis=-1)


def by_heads(scope: Scope, x: str, shape: tuple[int, ...], size: int) -> str:
    """[N,length,heads*size] as [N,heads,length,size]."""
    apart = shaped(scope, x, *shape[:2], shape[2] // size, size)
    return scope.write("Transpose", apart, perm=[0, 2, 1, 3])


def shaped(scope: Scope, x: str, *sizes: int) -> str:
    """Return a tensor in another shape."""
    return scope.write("Reshape", x, scope.constant(np.array(sizes, np.int64)))
