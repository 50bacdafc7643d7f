"""Running models: sessions, providers, bound outputs, captured activations."""

from onnxexplain.runtime.capture import capture
from onnxexplain.runtime.once import run_once
from onnxexplain.runtime.reference import evaluate
from onnxexplain.runtime.session import WIDE, Device, Session, newest

__all__ = ["WIDE", "Device", "Session", "capture", "evaluate", "newest", "run_once"]
