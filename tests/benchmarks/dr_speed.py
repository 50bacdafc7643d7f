"""Speed and memory of the DR explanation, in forward passes and in the size of its activations.

    python tests/benchmarks/dr_speed.py [--model dr.onnx] [--image fundus.png] [--json out.json]

The job is the input map, the constants' totals of all 15 layers and the residual. Everything is
timed in one process, each thing in a block of its own after two warm-up runs; the unit is ONNX
Runtime's forward pass of the same file, timed before and after. Memory is the rise of the peak
during one run, arena off, over the size of the activations.
"""

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path

# No library's spinning threads may disturb another's.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import onnxruntime as ort
from PIL import Image

import onnxexplain as ox

MEAN, STD = np.array([0.382, 0.265, 0.189], "f4"), np.array([0.290, 0.210, 0.170], "f4")


def photograph(path):
    """An image of the network's size, normalised as the authors do."""
    if path is None:  # flat rim included: it ties in every max pool
        rng = np.random.default_rng(0)
        rows, columns = np.mgrid[:640, :640] - 319.5
        disc = (rows**2 + columns**2 < 310**2)[..., None]
        pixels = np.where(disc, rng.uniform(0.2, 0.8, (640, 640, 3)), 0).astype("f4")
    else:
        pixels = np.asarray(Image.open(path).convert("RGB"), "f4") / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)[None].copy()


def median(job, runs):
    job(), job()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        job()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def speed(model, x):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    explainer = ox.Explainer(model, device="cpu")
    forward = median(lambda: session.run(None, {"input": x}), 15)
    one = median(lambda: explainer(x, target=4), 12)
    five = median(lambda: explainer(x, targets="all"), 8)
    again = median(lambda: session.run(None, {"input": x}), 15)
    unit = (forward + again) / 2
    residual = float(np.abs(explainer(x, targets="all").residual).max())
    return {
        "forward_ms": round(unit * 1e3, 1),
        "one_class": round(one / unit, 2),
        "five_classes": round(five / unit, 2),
        "largest_residual": residual,
    }


def rise(model, x, targets, queue):
    """Peak resident memory during one run less what was resident before it, in bytes (Linux)."""
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(-3, 65536)  # large blocks come from, and return to, the system
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    explainer = ox.Explainer(model, device="cpu", session_options=options)
    chosen = {"targets": "all"} if targets == 5 else {"target": 4}
    explainer(x, **chosen)
    gc.collect()
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    explainer(x, **chosen)
    queue.put(_status("VmHWM") - before)


def _status(field):
    line = Path("/proc/self/status").read_text().split(f"{field}:")[1]
    return int(line.split()[0]) * 1024


def memory(model, x):
    context = multiprocessing.get_context("spawn")
    convolved = [(16, 640), (32, 320), *((64, n) for n in (160, 80, 40, 20, 10))]
    pooled = [(c, n // 2) for c, n in convolved]
    activations = 4 * sum(c * n * n for c, n in (*convolved, *convolved, *pooled))
    found = {"activations_mib": round(activations / 2**20)}
    for targets, name in ((1, "one_class_memory"), (5, "five_classes_memory")):
        queue = context.Queue()
        process = context.Process(target=rise, args=(model, x, targets, queue))
        process.start()
        found[name] = round(queue.get() / activations, 2)
        process.join()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="models/dr640.onnx")
    parser.add_argument("--image")
    parser.add_argument("--json")
    chosen = parser.parse_args()
    x = photograph(chosen.image)
    figures = speed(chosen.model, x) | memory(chosen.model, x)
    figures["onnxruntime"], figures["cores"] = ort.__version__, os.cpu_count()
    text = json.dumps(figures, indent=2)
    print(text)
    if chosen.json:
        Path(chosen.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
