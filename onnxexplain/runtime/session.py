"""ONNX Runtime sessions: the only place that makes them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxexplain.errors import DeviceError, InputError, ModelError
from onnxexplain.graph import weightless
from onnxexplain.graph.node import array

Array = np.ndarray[Any, Any]

MANY_NODES = 4096
"""In a longer graph (512 steps of a recurrence) the plan of which memory to use again costs more
than it saves: its making is quadratic in the nodes."""

WIDE = "session.x64quantprecision"
"""On x86 processors without VNNI instructions ONNX Runtime adds products of unsigned with signed
bytes in 16 bits, and what exceeds them is lost, unless a session says this. Only its optimiser
knows how to do without."""


def onnxruntime() -> Any:
    """Return the onnxruntime module, or say how to get one."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise DeviceError(
            "ONNX Runtime is not installed; install onnxexplain[cpu] or onnxexplain[gpu], not both"
        ) from error
    ort.set_default_logger_severity(3)
    return ort


@dataclass(frozen=True)
class Device:
    """Where things run, and how."""

    kind: str
    """``cpu`` or ``cuda``."""
    providers: tuple[Any, ...]
    threads: int | None = None
    options: Any = None
    """The caller's own ``SessionOptions``, used as they are."""

    @classmethod
    def named(
        cls,
        name: str = "auto",
        *,
        providers: Sequence[Any] | None = None,
        threads: int | None = None,
        options: Any = None,
    ) -> "Device":
        """Return the device called ``cpu``, ``cuda`` or ``auto`` (CUDA where it is there).

        Raises
        ------
        DeviceError
            if there is no such device here.
        """
        if name not in ("auto", "cpu", "cuda"):
            raise DeviceError(f"no device `{name}`; one of cpu, cuda, auto")
        ort = onnxruntime()
        if threads is not None and threads < 1:
            raise DeviceError(f"threads is {threads}; it must be at least 1")
        if providers is not None and not providers:
            raise DeviceError("providers is empty; name one, or leave it out")
        if providers is not None:
            names = [p if isinstance(p, str) else p[0] for p in providers]
            for name in names:
                if name not in ort.get_available_providers():
                    known = ", ".join(ort.get_available_providers())
                    raise DeviceError(f"this ONNX Runtime has no provider `{name}`; it has {known}")
            first = names[0]
            kind = "cuda" if first.startswith(("CUDA", "Tensorrt")) else "cpu"
            return cls(kind, tuple(providers), threads, options)
        there = "CUDAExecutionProvider" in ort.get_available_providers()
        if name == "cuda" and not there:
            raise DeviceError(
                "this ONNX Runtime has no CUDA provider; install onnxexplain[gpu] instead of [cpu]"
            )
        if name == "cpu" or not there:
            return cls("cpu", ("CPUExecutionProvider",), threads, options)
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        return cls("cuda", ("CUDAExecutionProvider", "CPUExecutionProvider"), threads, options)


class Session:
    """One model, ready to run."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        device: Device,
        *,
        plain: bool = False,
        wide: bool = False,
        outputs: Sequence[str] | None = None,
        weights: Mapping[str, Array] | None = None,
    ) -> None:
        """Load ``proto``; ``plain`` switches off every graph optimisation that is not needed.

        ``wide`` needs one: no sum of products of bytes overflows then. Neither touches the device's
        own options, where it has some.

        ``outputs`` stand in place of the model's own. The runtime reads large weights where they
        lie: in ``weights``, the constants of the model by name, so that sessions share them.
        """
        ort = onnxruntime()
        light = weightless.lying_outside(proto)
        if outputs is not None:
            del light.graph.output[:]
            light.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        weightless.drop_unread(light)
        self._weights = _outside(light, proto, weights or {})  # the runtime keeps no copy
        options = device.options
        if options is None:
            many = len(proto.graph.node) > MANY_NODES
            options = _options(ort, device, plain=plain, wide=wide, many=many)
            values = map(ort.OrtValue.ortvalue_from_numpy, self._weights.values())
            options.add_external_initializers(list(self._weights), list(values))
        else:  # the caller's own are left as they are
            light = weightless.whole(light, self._weights)
        content = _serialised(light)
        try:
            self._session = ort.InferenceSession(
                content, options, providers=list(device.providers), enable_fallback=0
            )
        except Exception as error:
            if not _raised_by(ort, error):
                raise
            raise ModelError(f"ONNX Runtime cannot load the model: {_line(error)}") from error
        self._ort = ort
        self.device = device
        self.outputs = [o.name for o in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Any]:
        """Run on NumPy arrays and return NumPy arrays."""
        try:
            return list(self._session.run(list(outputs) if outputs else None, dict(feeds)))
        except Exception as error:
            if not _raised_by(self._ort, error):
                raise
            raise InputError(f"ONNX Runtime stopped: {_line(error)}") from error

    def run_into(
        self, feeds: Mapping[str, Array], filled: Mapping[str, Array], rest: Sequence[str]
    ) -> list[Any]:
        """Run, writing the outputs ``filled`` straight into the given CPU arrays.

        Returns the outputs ``rest`` as arrays of their own.
        """
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        for name, into in filled.items():
            binding.bind_output(name, "cpu", 0, into.dtype, into.shape, into.ctypes.data)
        for name in rest:
            binding.bind_output(name, "cpu")
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            if not _raised_by(self._ort, error):
                raise
            raise InputError(f"ONNX Runtime stopped: {_line(error)}") from error
        return [value.numpy() for value in binding.get_outputs()[len(filled) :]]

    def run_on_device(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Any]:
        """Run and leave the outputs on the GPU, as OrtValues that DLPack hands to CuPy."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        for name in outputs:
            binding.bind_output(name, "cuda")
        self._session.run_with_iobinding(binding)
        return list(binding.get_outputs())


@functools.cache
def newest() -> tuple[int, int]:
    """Return the newest opset and IR version that the installed ONNX Runtime loads, by trying."""

    def loads(opset: int, ir: int) -> bool:
        info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
        node = onnx.helper.make_node("Relu", ["x"], ["y"])
        graph = onnx.helper.make_graph([node], "trial", [info], [out])
        stamp = [onnx.helper.make_opsetid("", opset)]
        try:
            Session(
                onnx.helper.make_model(graph, opset_imports=stamp, ir_version=ir),
                Device("cpu", ("CPUExecutionProvider",)),
            )
        except ModelError:
            return False
        return True

    opset = onnx.defs.onnx_opset_version()
    while opset > 18 and not loads(opset, 8):
        opset -= 1
    ir = int(onnx.IR_VERSION)
    while ir > 8 and not loads(18, ir):
        ir -= 1
    return opset, ir


def _options(ort: Any, device: Device, *, plain: bool, wide: bool, many: bool) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if wide:
        options.add_session_config_entry(WIDE, "1")
    if plain:
        levels = ort.GraphOptimizationLevel
        level = levels.ORT_ENABLE_EXTENDED if wide else levels.ORT_DISABLE_ALL
        options.graph_optimization_level = level
        return options
    if device.threads:
        options.intra_op_num_threads = device.threads
    if many:
        options.enable_mem_reuse = options.enable_mem_pattern = False
    return options


def _outside(
    light: onnx.ModelProto, proto: onnx.ModelProto, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the weights that lie outside the light model, as the runtime reads them."""
    held = {t.name: t for t in proto.graph.initializer}
    names = [t.name for t in light.graph.initializer if weightless.outside(t)]
    found = {n: weights[n] if n in weights else array(held[n]) for n in names}
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def _serialised(proto: onnx.ModelProto) -> bytes:
    try:
        return bytes(proto.SerializeToString())
    except Exception as error:  # protobuf's own kinds differ between its implementations
        raise ModelError(f"the model cannot be handed to ONNX Runtime: {_line(error)}") from error


def _raised_by(ort: Any, error: Exception) -> bool:
    """Whether ONNX Runtime itself raised it: its errors share no public class of their own."""
    module = type(error).__module__
    return module.startswith("onnxruntime") or isinstance(error, (RuntimeError, ValueError))


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] + ("..." if len(text) > 300 else "")
