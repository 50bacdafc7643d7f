"""A model run once, on whatever can run it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnxexplain.errors import ModelError
from onnxexplain.graph import within
from onnxexplain.runtime.reference import evaluate
from onnxexplain.runtime.session import Device, Session, newest

Array = np.ndarray[Any, Any]


def run_once(
    proto: onnx.ModelProto, feeds: Mapping[str, Array], outputs: Sequence[str]
) -> list[Any]:
    """Run a small model once, unoptimised, on the CPU; an output is an array or a sequence.

    What is newer than the runtime, or has no kernel in it, runs on ONNX's own reference.

    Raises
    ------
    ModelError
        in the runtime's words, if neither can run it.
    """
    try:
        session = Session(within(proto, newest()), Device.named("cpu"), plain=True)
    except ModelError as refused:
        try:
            found = evaluate(proto, feeds, outputs)
        except ModelError:
            raise refused from None
        return [found[name] for name in outputs]
    return session.run(feeds, outputs)
