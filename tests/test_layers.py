"""Layers look down only: a test over the import statements."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnxexplain

PACKAGE = Path(onnxexplain.__file__).parent

# What each part may import from the package; None is everything. `onnxexplain.cli -> methods ->
# rules -> reverse -> ops -> tensor`, errors below all, graph beside them.
ALLOWED = {
    "errors": set(),
    "tensor": {"errors", "tensor"},
    "ops": {"errors", "tensor", "ops"},
    "graph": {"errors", "graph"},
    "reverse": {"errors", "tensor", "ops", "graph"},
    "rules": {"errors", "tensor", "reverse", "rules"},
    "methods": {"errors", "tensor", "ops", "graph", "reverse", "rules", "methods"},
    "runtime": {"errors", "graph", "tensor", "ops", "runtime"},
    "transport": {"graph"},
    "target": {"errors"},
    "compiler": {"errors", "graph", "tensor", "reverse", "rules", "methods"},
}

FRAMEWORKS = {"torch", "torchvision", "captum", "zennit", "tensorflow", "keras", "jax"}

FOREIGN = {
    "ops": {"numpy", "cupy", "onnx", "onnxruntime"},
    "rules": {"numpy", "cupy", "onnx", "onnxruntime"},
    "methods": {"cupy", "onnx", "onnxruntime"},
    "errors": {"numpy", "cupy", "onnx", "onnxruntime", "networkx"},
    "graph": {"cupy", "onnxruntime"},
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, *, lazily: bool = True) -> Iterator[str]:
    """Yield what a file imports, types aside; ``lazily`` counts imports within functions."""
    tree = ast.parse(path.read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    within_functions = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only or (not lazily and node in within_functions):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            if node.module == "onnxexplain":
                yield from (f"onnxexplain.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers_look_down(path):
    allowed = ALLOWED.get(part(path))
    own = {m.split(".")[1] for m in imported(path) if m.startswith("onnxexplain.")}
    if allowed is not None:
        assert own <= allowed
    roots = {m.split(".")[0] for m in imported(path)}
    assert roots.isdisjoint(FOREIGN.get(part(path), set()))


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_training_framework(path):
    names = {m.split(".")[0] for m in imported(path)}
    allowed = {"torch"} if path.name == "dr.py" else set()  # reads the authors' checkpoint
    assert names & FRAMEWORKS <= allowed
    assert not {m.split(".")[0] for m in imported(path, lazily=False)} & FRAMEWORKS


HEAVY = ("onnx", "onnxruntime", "numpy", "matplotlib", "networkx", "PIL", "torch")


def loaded_after(code: str) -> set[str]:
    """Return which heavy modules a fresh interpreter has after running ``code``."""
    probe = f"import sys\n{code}\nprint('loaded', *(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.rsplit("loaded", 1)[1].split())


def test_importing_costs_nothing():
    assert not loaded_after("import onnxexplain; onnxexplain.__version__; dir(onnxexplain)")


def test_help_costs_nothing():
    pytest.importorskip("onnxexplain.cli", reason="the command line is not there yet")
    if not (PACKAGE / "cli" / "__init__.py").exists():
        pytest.skip("the command line is not there yet")
    code = """
sys.argv = ["onnxexplain", "--help"]
from onnxexplain.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    assert not loaded_after(code)


def test_explaining_loads_no_framework():
    code = """
import numpy as np, onnxexplain as ox
from onnx import parser
model = parser.parse_model(
    '<ir_version: 8, opset_import: ["": 18]> g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }'
)
ox.explain(model, np.ones((1, 2), np.float32), target=0)
"""
    assert "torch" not in loaded_after(code)
