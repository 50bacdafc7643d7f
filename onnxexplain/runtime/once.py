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
    proto: onnx.ModelProto,
    feeds: Mapping[str, Array],
    outputs: Sequence[str],
    options: Any = None,
    *,
    wide: bool = False,
) -> list[Any]:
    """Run a small model once, unoptimised, on the CPU; an output is an array or a sequence.

    ``options`` are the caller's own ``SessionOptions``: they may know operators from elsewhere.
    ``wide`` lets no sum of products of bytes overflow; see ``WIDE``.

    What is newer than the runtime, or has no kernel in it, runs on ONNX's own reference.

    Raises
    ------
    ModelError
        in the runtime's words, if neither can run it.
    """
    try:
        device = Device.named("cpu", options=options)
        session = Session(within(proto, newest()), device, plain=True, wide=wide)
    except ModelError as refused:
        try:
            found = evaluate(proto, feeds, outputs)
        except ModelError:
            raise refused from None
        return [found[name] for name in outputs]
    return session.run(feeds, outputs)
