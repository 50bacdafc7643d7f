"""Operators read with a part of what varies held fixed: statistics, and gates."""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

from onnxexplain.graph import Node
from onnxexplain.methods._method import Way
from onnxexplain.ops import HELD, find

_BOUNDED = frozenset({"Sigmoid", "HardSigmoid", "Softmax"})
"""What makes a gate: numbers between 0 and 1."""


def detached(way: Way) -> Way:
    """Return the way on which the statistics of normalisations count as constants."""
    nodes = [
        replace(node, domain=HELD)
        if find(HELD, node.op_type) and _role(node) == "normalisation"
        else node
        for node in way.nodes
    ]
    return replace(way, nodes=tuple(nodes))


def gated(way: Way) -> Way:
    """Return the way on which, of a product of what varies, all but one factor are weights.

    The one that is not is the factor least like a gate: not between 0 and 1 by a sigmoid or
    softmax; else the one that is not repeated to the other's shape; else the one not made by an
    activation; else the first.
    """
    makers = {t: node for node in way.nodes for t in node.outputs}
    nodes = []
    for node in way.nodes:
        moving = [slot for slot, t in enumerate(node.inputs) if t in way.moving]
        factors = moving if node.op_type == "Einsum" else [slot for slot in moving if slot < 2]
        if node.domain or len(factors) < 2 or not _is_product(node):
            nodes.append(node)
            continue
        carrier = min(factors, key=functools.partial(_gate_like, way, makers, node))
        held = tuple(slot for slot in factors if slot != carrier)
        nodes.append(replace(node, domain=HELD, attributes=node.attributes | {"held": held}))
    return replace(way, nodes=tuple(nodes))


def _role(node: Node) -> str:
    found = find(node.domain, node.op_type)
    return found.role if found else ""


def _is_product(node: Node) -> bool:
    return find(HELD, node.op_type) is not None and _role(node) in ("product", "linear")


def _gate_like(
    way: Way, makers: Mapping[str, Node], node: Node, slot: int
) -> tuple[bool, int, bool, int]:
    """How like a gate a factor is; the least is what is weighed."""
    made = makers.get(node.inputs[slot])
    while made is not None and _role(made) == "routing":
        before = [t for t in made.inputs if t in way.moving]
        made = makers.get(before[0]) if len(before) == 1 else None
    bounded = made is not None and made.op_type in _BOUNDED
    # Only elementwise do factors stand for one another: then the smaller is repeated.
    size = math.prod(way.values[node.inputs[slot]].shape) if node.op_type == "Mul" else 0
    active = made is not None and _role(made) in ("activation", "softmax")
    return (bounded, -size, active, slot)
