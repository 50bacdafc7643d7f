"""The converted models that onnx ships with data: derivatives by difference, both engines."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conformance.test_node_cases import is_score, model_of, three_ways, why_not

FOLDER = Path(onnx.__file__).parent / "backend/test/data"
FOLDERS = ("pytorch-converted", "pytorch-operator", "simple")


@dataclass(frozen=True)
class Case:
    """A model with the inputs it ships with."""

    name: str
    model: onnx.ModelProto
    data_sets: list


def read(folder: Path) -> Case:
    model = onnx.load(folder / "model.onnx")
    held = {t.name for t in model.graph.initializer}
    kept = [v for v in model.graph.input if v.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    data = folder / "test_data_set_0"
    inputs = [_array(data / f"input_{i}.pb") for i in range(len(kept))]
    outputs = [_array(data / f"output_{i}.pb") for i in range(len(model.graph.output))]
    return Case(folder.name, model, [(inputs, outputs)])


def tamed(case: Case) -> Case:
    """The case on numbers of its own: its data are NaN, or beyond float32."""
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(0.5, 1.5, v.shape).astype(v.dtype) for v in case.data_sets[0][0]]
    outputs = [np.zeros(1) for _ in case.data_sets[0][1]]
    return Case(case.name, case.model, [(inputs, outputs)])


def _array(path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return numpy_helper.to_array(onnx.load_tensor(path))


def folders():
    found = [p for kind in FOLDERS for p in sorted((FOLDER / kind).iterdir())]
    return [p for p in found if (p / "model.onnx").exists()]


@pytest.mark.parametrize("folder", folders(), ids=lambda p: p.name)
def test_model(folder):
    try:
        case = read(folder)
    except (TypeError, ValueError) as error:  # a sequence where a tensor is looked for
        pytest.skip(f"its data are no tensors: {error}")
    why = why_not(case.name, case)
    if why is not None:
        pytest.skip(why)
    if not any(is_score(v) for v in case.data_sets[0][1]):
        case = tamed(case)
    three_ways(case.name, *model_of(case))
