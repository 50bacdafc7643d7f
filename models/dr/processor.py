"""What makes training fast on the processor at hand.

That is bfloat16 where it has instructions for it, else float32: an image took 0.3 seconds in
bfloat16 on one machine and 9 on another, where float32 took 0.8. No flag of a processor says so
reliably, so both are timed once, on two small images. Beside that, memory that is kept between
batches rather than given back to the system saves a third of the time, or more.
"""

import ctypes
import functools
import sys
import time
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from models.dr.network import Network


def keep_memory() -> None:
    """Keep freed memory for the next batch, where the C library is glibc, which can be told to."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)  # no blocks apart, which are given back one by one
        mallopt(trim_threshold, 2**31 - 1)  # nor the rest


def run_fast(dtype: torch.dtype | None = None) -> AbstractContextManager[None]:
    """Compute what follows in the type that is fastest here, or in this one."""
    chosen = dtype or fastest()
    return torch.autocast("cpu", torch.bfloat16, enabled=chosen == torch.bfloat16)


def lay_fast(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Lay a batch out as that type likes it: channels last for bfloat16."""
    half = (dtype or fastest()) == torch.bfloat16
    return x.contiguous(memory_format=torch.channels_last if half else torch.contiguous_format)


@functools.cache
def fastest() -> torch.dtype:
    """Time a step in either type."""
    return min((torch.float32, torch.bfloat16), key=_seconds)


@torch.enable_grad()
def _seconds(dtype: torch.dtype) -> float:
    network, spent = Network(), []
    for _ in range(2):
        x = lay_fast(torch.rand(2, 3, 256, 256), dtype)
        began = time.perf_counter()
        with run_fast(dtype):
            scores = network(x)
        scores.sum().backward()
        spent.append(time.perf_counter() - began)
    return min(spent)
