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
    """Run a small model once on the CPU; an output is an array or a sequence.

    It runs unoptimised, or with the caller's own ``SessionOptions``, which may know operators from
    elsewhere. ``wide`` lets no sum of products of bytes overflow, as long as there are no such
    options; see ``WIDE``.

    What is newer than the runtime, or has no kernel in it, runs on ONNX's own reference, unless it
    is the runtime's own answer that is asked for, ``wide``.

    Raises
    ------
    ModelError
        in the runtime's words, if neither can run it.
    """
    try:
        device = Device.named("cpu", options=options)
        session = Session(within(proto, newest()), device, plain=True, wide=wide)
    except ModelError as refused:
        if wide:
            raise
        try:
            found = evaluate(proto, feeds, outputs)
        except ModelError:
            raise refused from None
        return [found[name] for name in outputs]
    return session.run(feeds, outputs)
