"""Every operator under ``array_api_strict``: nothing but the standard, dtype in = dtype out."""

import array_api_strict
import numpy as np
import pytest

from onnxexplain.graph import lower
from onnxexplain.methods import Way, make
from onnxexplain.methods.answer import Request, answer
from onnxexplain.ops import operators, role_of
from onnxexplain.runtime import evaluate, newest, run_once
from onnxexplain.tensor import Arrays
from tests.builders import Array
from tests.nets import NETS, data


def strict(value):
    return array_api_strict.asarray(np.ascontiguousarray(value))


def answers(proto, feeds, dtype: str, ties: str = "first") -> dict[str, Array]:
    """Explain with nothing but the strict namespace; every step's results are checked."""
    sizes = {name: value.shape for name, value in feeds.items()}
    lowered = lower(proto, sizes, run_once, dtype, newest(), role_of)
    names = [n for n in lowered.shapes if n not in lowered.constants]
    wide = {n: v.astype(dtype) for n, v in feeds.items()}
    found = evaluate(lowered.proto, wide, names)
    values = {n: strict(v) for n, v in (lowered.constants | found).items()}
    moving = frozenset(n for n in names if n in lowered.floats)
    seed = strict(np.array([[1, -2, 0.5, 0.25]], dtype))
    way = Way(
        Arrays(array_api_strict, ties), lowered.nodes, values, moving, tuple(feeds), "y", seed
    )
    layers = tuple(t for node in lowered.nodes for t in node.outputs if t in moving)
    request = Request(layers=layers, maps=(), spread=True)
    return dict(answer(way, make("score-propagation", {}), request))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_every_net(name, dtype):
    """Attributions, layers and constants keep the dtype; totals are float64; all conserve."""
    proto = NETS[name]
    feeds = data(proto, 1)
    found = answers(proto, feeds, dtype)
    own = {
        key: v
        for key, v in found.items()
        if key.startswith(("attribution", "score/", "constant/", "spread"))
    }
    assert own
    for key, value in own.items():
        assert value.dtype == getattr(array_api_strict, dtype), key
    totals = [v for key, v in found.items() if key.startswith(("total/", "constants/"))]
    assert all(v.dtype == array_api_strict.float64 for v in (found["score"], *totals))
    gap = float(found["score"][0]) - sum(float(v[0]) for v in totals)
    assert abs(gap) < (1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("name", ["max-pool", "max-pool-overlapping", "global-max-pool"])
def test_shared_ties(name):
    proto = NETS[name]
    feeds = {n: np.round(v) for n, v in data(proto, 1).items()}
    found = answers(proto, feeds, "float64", ties="share")
    totals = [v for key, v in found.items() if key.startswith(("total/", "constants/"))]
    assert abs(float(found["score"][0]) - sum(float(v[0]) for v in totals)) < 1e-12


def test_every_operator_runs():
    used = {node.op_type for proto in NETS.values() for node in proto.graph.node}
    owed = {op.op_type for op in operators() if op.role != "stop" and not op.domain}
    assert owed - used <= {"Cast", "Gelu", "Swish"}  # newer than the nets
