"""The versions of everything that computes."""

import importlib.metadata

_PACKAGES = ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "cupy-cuda13x")


def versions() -> dict[str, str]:
    """Return the version of this package, and of what it computes with, by name."""
    from onnxexplain import __version__

    found = {"onnxexplain": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
