"""A folder with a model and photographs, and a way to call the command line in it."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from onnxexplain.cli import run
from tests.pictures import LABELS, classifier, photograph


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with ``model.onnx``, ``photo.png`` and ``array.npy``."""
    onnx.save(classifier(labels=LABELS), tmp_path / "model.onnx")
    photograph().save(tmp_path / "photo.png")
    np.save(tmp_path / "array.npy", np.ones((1, 3, 24, 24), np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(here, capsys):
    """Run a command; return its exit code, what it said, and that as JSON where it is."""

    def run_it(*arguments: object):
        code = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        record = json.loads(out) if out[:1] in ("[", "{") else None
        return SimpleNamespace(code=code, out=out, err=err, json=record)

    return run_it
