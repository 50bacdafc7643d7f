"""Every example runs as a user would run it."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"

DRAWN = {
    "07_sensitivity_and_cams": "sensitivity_sum sensitivity_own",
    "08_circles_and_boxes": """
        boxes58k_gradient boxes58k_guided-backprop boxes58k_grad-cam_of_every_layer
        boxes444k_gradient boxes444k_guided-backprop boxes444k_guided-grad-cam_of_every_layer""",
    "09_findings_and_boxes": """
        crm_circle crm_triangle crm_all_classes crm_boxes grad-cam guided-grad-cam cnn-fixations
        ensemble""",
}
"""Figures that stand in the folder named on the command line, or in ``out``."""


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_script(path, tmp_path):
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    for name in DRAWN.get(path.stem, "").split():
        with Image.open(tmp_path / "out" / f"{name}.png") as figure:
            assert min(figure.size) > 300


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setitem(os.environ, "IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": EXAMPLES}}
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result" and "image/png" in output.data
    ]
    assert len(pictures) >= 10
