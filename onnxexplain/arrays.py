"""Reading arrays from files, which are not trusted: nothing in them is run."""

from pathlib import Path
from typing import Any

import numpy as np

from onnxexplain.errors import InputError, first_line

Array = np.ndarray[Any, Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file by name, or that of an ``.npy`` file named ``""``.

    Raises
    ------
    InputError
        if the file cannot be read, is damaged, or holds anything but plain arrays.
    """
    try:
        with path.open("rb") as file:
            held = np.load(file, allow_pickle=False)
            arrays = {"": held} if isinstance(held, np.ndarray) else dict(held)
    except MemoryError as error:
        raise InputError(f"{path}: too large for the memory") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"{path}: cannot be read ({reason})") from error
    except ValueError as error:
        # numpy's own words advise loading pickles, which run code from the file.
        said = "damaged, or holds pickled objects, which are never loaded"
        raise InputError(f"{path}: {said}") from error
    except Exception as error:  # numpy and zipfile each have kinds of their own
        raise InputError(f"{path}: damaged, or no array file ({first_line(error)})") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # another file in the archive
            raise InputError(f"{path}: `{name}` in it is no array")
    return arrays
