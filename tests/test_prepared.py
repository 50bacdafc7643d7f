"""A model made ready: how it is compared with the file, and how often it is loaded for that."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import onnxexplain as ox
from onnxexplain import prepared
from onnxexplain.runtime import newest
from tests.builders import net, weights
from tests.nets import NETS, data
from tests.test_floats import told_in

OLD = net(
    "(float[N,6] x) => (float[N,4] y) { y = Gemm(x, w, b) }",
    opset=9,
    **weights(1, w=(6, 4), b=(4,)),
)
X = data(OLD, 1)["x"]


@pytest.fixture
def loaded(monkeypatch):
    """The sessions made so far."""
    newest()  # tries some by itself, once
    made = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            made.append(self)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return made


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize(("batch", "most"), [(1, 3), (2, 4), (5, 5)])
def test_one_session_serves_every_check(loaded, engine, batch, most):
    """That of two samples, of one, the file's own, that of the batch, and the engine's."""
    proto = told_in(TensorProto.FLOAT16, NETS["relu"])
    explainer = ox.Explainer(proto, engine=engine)
    x = data(proto, batch)["x"]
    explainer(x)
    assert len(loaded) == most
    explainer(x)
    assert len(loaded) == most


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_what_only_checks_need_is_let_go(engine):
    proto = told_in(TensorProto.FLOAT16, NETS["relu"])
    explainer = ox.Explainer(proto, engine=engine)
    x = data(proto, 5)["x"]
    explainer(x)
    for few in (x[:1], x[:2]):
        assert not explainer.prepare({"x": few}).captures


def test_a_disagreement_is_told_every_time(monkeypatch):
    monkeypatch.setattr(prepared, "AGREEMENT", -1.0)
    explainer = ox.Explainer(OLD)
    for _ in range(2):
        with pytest.raises(ox.ModelError, match="answers differently"):
            explainer(X)


def test_a_file_that_lists_a_weight_nothing_reads_is_compared():
    """Old files list their weights among the inputs; one that nothing reads is no input."""
    proto = type(OLD)()
    proto.CopyFrom(OLD)
    proto.graph.initializer.add(name="idle", data_type=TensorProto.FLOAT, dims=[1], float_data=[1])
    listed = [(t.name, t.dims) for t in proto.graph.initializer]
    proto.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in listed
    )
    e = ox.explain(proto, X)
    assert e.difference is not None
    assert e.difference < 1e-6
    assert np.array_equal(e.score, ox.explain(OLD, X).score)
