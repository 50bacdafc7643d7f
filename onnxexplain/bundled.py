"""The model and the photograph that come with the package."""

from pathlib import Path

from onnxexplain.errors import InputError


def bundled(name: str) -> Path:
    """Return the path of ``dr640.onnx`` or ``dr_retina.png``.

    An installed package carries them in ``data``; in a checkout they lie in ``models``.

    Raises
    ------
    InputError
        if neither is there.
    """
    here = Path(__file__).resolve().parent
    places = [here / "data" / name, here.parent / "models" / name]
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{name}: not found in {' or '.join(str(p.parent) for p in places)}")
