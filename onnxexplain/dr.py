"""The diabetic-retinopathy network of de la Torre, Valls and Puig (2017), from weights to ONNX."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxexplain.arrays import Array, read_arrays
from onnxexplain.errors import DeviceError, InputError
from onnxexplain.save import write_whole

LAYERS = ("rf3 rf5 rf9 rf13 rf21 rf29 rf45 rf61 rf93 rf125 rf189 rf253 rf381 rf509 rf637").split()
"""The convolutions, named by their nominal receptive field."""

LABELS = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
EPSILON = 1e-5
OPSET = 18


@dataclass(frozen=True)
class Preprocess:
    """How a photograph becomes an input; the constants of the authors' later application."""

    mean: tuple[float, ...] = (0.382, 0.265, 0.189)
    std: tuple[float, ...] = (0.290, 0.210, 0.170)

    def record(self) -> dict[str, Any]:
        """Return it as the metadata of a model file holds it."""
        return {
            "size": [640, 640],
            "mode": "fundus",
            "scale": 1.0,
            "mean": list(self.mean),
            "std": list(self.std),
            "channels": "rgb",
            "layout": "NCHW",
            "interpolation": "lanczos",
        }


def dr_network(
    weights: str | Path | Mapping[str, Array],
    path: str | Path,
    *,
    fold: bool = False,
    labels: tuple[str, ...] | None = LABELS,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write the network as an ONNX file: ``input`` [N,3,640,640] to ``logits`` [N,5].

    Parameters
    ----------
    weights
        an ``.npz`` or ``.safetensors`` file, a torch checkpoint (``.pth``, ``.pt``, ``.tar``, which
        needs the extra ``torch``), or arrays by name; under the layers' published names
        (``rf3.conv.weight``, ``rf3.bn.running_mean``, ..., ``lc.weight``) or the authors' own
        (``features.0.weight``, ``features.1.running_mean``, ..., ``output.0.weight``).
    path
        where the file goes.
    fold
        merge each BatchNormalization into the convolution before it.
    metadata
        more properties for the file, beside its labels and preprocessing.

    Raises
    ------
    InputError
        if the weights cannot be read, or are none of this network's.
    """
    arrays = published_names(weights if isinstance(weights, Mapping) else read_weights(weights))
    proto = build(arrays, fold=fold)
    import json

    properties = {"onnxexplain.preprocess": json.dumps(Preprocess().record())}
    if labels is not None and arrays["lc.weight"].shape[0] == len(labels):
        properties["onnxexplain.labels"] = json.dumps(list(labels))
    helper.set_model_props(proto, {**properties, **(metadata or {})})
    path = Path(path)
    write_whole(path, proto.SerializeToString(deterministic=True))
    return path


# ----- Weights -----


def read_weights(path: str | Path) -> dict[str, Array]:
    """Return the arrays of a weights file by name."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix == ".npz":
        return read_arrays(path)
    if path.suffix != ".safetensors":
        return _checkpoint(path)
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # safetensors has kinds of its own
        raise InputError(f"{path}: cannot be read as weights ({error})") from error


def _checkpoint(path: Path) -> dict[str, Array]:
    try:
        import torch
    except ImportError as error:
        raise DeviceError(
            f"{path}: a torch checkpoint needs the extra: onnxexplain[torch]"
        ) from error
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zipfile's and torch's own kinds
        # torch's own words advise loading without weights_only, which runs code from the file.
        raise InputError(f"{path}: not a torch checkpoint of plain tensors") from error
    state = held.get("state_dict", held) if isinstance(held, dict) else {}
    found = {k: v.numpy() for k, v in state.items() if hasattr(v, "numpy")}
    if not found:
        raise InputError(f"{path}: the checkpoint holds no weights")
    return found


_PARTS = {
    "conv": ("weight", "bias"),
    "bn": ("weight", "bias", "running_mean", "running_var"),
}


def published_names(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the weights under the published layer names, checked."""
    arrays = {name.removeprefix("module."): value for name, value in arrays.items()}
    if "rf3.conv.weight" not in arrays:
        arrays = _from_authors(arrays)
    named = {
        f"{layer}.{part}.{field}": None
        for layer in LAYERS
        for part in _PARTS
        for field in _PARTS[part]
    }
    named |= {"lc.weight": None, "lc.bias": None}
    found: dict[str, Array] = {}
    for name in named:
        if name in arrays:
            found[name] = np.asarray(arrays[name], np.float32)
        elif name.endswith("conv.bias"):  # the published sibling's convolutions have none
            found[name] = np.zeros(arrays[name.replace("bias", "weight")].shape[0], np.float32)
        else:
            raise InputError(f"these are not the weights of the DR network: `{name}` is missing")
    _check_shapes(found)
    return found


def _from_authors(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Rename ``features.0, .1, .3 ...``, ``classifier.0, .1``, ``output.0`` in order of layers."""
    stages = {name.rsplit(".", 1)[0] for name in arrays}
    order = sorted(
        (s for s in stages if s.startswith("features.")), key=lambda s: int(s.split(".")[1])
    )
    order += sorted(s for s in stages if s.startswith("classifier."))
    convs = [s for s in order if arrays.get(f"{s}.weight", np.empty(0)).ndim == 4]
    norms = [s for s in order if f"{s}.running_mean" in arrays]
    if len(convs) != len(LAYERS) or len(norms) != len(LAYERS):
        raise InputError(
            f"these are not the weights of the DR network: {len(convs)} convolutions and "
            f"{len(norms)} normalisations instead of {len(LAYERS)} each"
        )
    renamed = {}
    for layer, conv, norm in zip(LAYERS, convs, norms, strict=True):
        for part, stage in (("conv", conv), ("bn", norm)):
            for field in _PARTS[part]:
                if f"{stage}.{field}" in arrays:
                    renamed[f"{layer}.{part}.{field}"] = arrays[f"{stage}.{field}"]
    for field in ("weight", "bias"):
        if f"output.0.{field}" in arrays:
            renamed[f"lc.{field}"] = arrays[f"output.0.{field}"]
    return renamed


def _check_shapes(found: Mapping[str, Array]) -> None:
    channels = 3
    for layer in LAYERS:
        side = 2 if layer == "rf637" else 3
        weight = found[f"{layer}.conv.weight"]
        if weight.shape[1:] != (channels, side, side):
            raise InputError(
                f"`{layer}.conv.weight` has shape {list(weight.shape)}; "
                f"expected [*, {channels}, {side}, {side}]"
            )
        channels = weight.shape[0]
        for part, fields in _PARTS.items():
            for field in fields:
                name = f"{layer}.{part}.{field}"
                if part + field != "convweight" and found[name].shape != (channels,):
                    raise InputError(
                        f"`{name}` has shape {list(found[name].shape)}; expected [{channels}]"
                    )
    if found["lc.weight"].ndim != 2 or found["lc.weight"].shape[1] != channels:
        raise InputError(
            f"`lc.weight` has shape {list(found['lc.weight'].shape)}; expected [*, {channels}]"
        )


# ----- Graph -----


def build(arrays: Mapping[str, Array], *, fold: bool = False) -> onnx.ModelProto:
    """Return the network as a ``ModelProto``."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(op: str, layer: str, *inputs: str, **attributes: Any) -> str:
        out = f"/{layer}/{op}_output_0"
        nodes.append(helper.make_node(op, inputs, [out], f"/{layer}/{op}", **attributes))
        return out

    def hold(name: str, value: Array) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    x = "input"
    for index, layer in enumerate(LAYERS):
        x = _layer(arrays, layer, x, add, hold, fold)
        if index % 2 and layer != "rf637":
            x = add("MaxPool", f"pool{index // 2 + 1}", x, kernel_shape=[2, 2], strides=[2, 2])
    x = add("AveragePool", "avgpool", x, kernel_shape=[4, 4], strides=[4, 4])
    x = add("Flatten", "flatten", x, axis=1)
    head = [hold("lc.weight", arrays["lc.weight"]), hold("lc.bias", arrays["lc.bias"])]
    x = add("Gemm", "lc", x, *head, transB=1)
    nodes.append(helper.make_node("Identity", [x], ["logits"], "logits"))
    classes = arrays["lc.weight"].shape[0]
    graph = helper.make_graph(
        nodes,
        "diabetic-retinopathy",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["N", 3, 640, 640])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", classes])],
        weights,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9, producer_name="onnxexplain")


def _layer(
    arrays: Mapping[str, Array],
    layer: str,
    x: str,
    add: Callable[..., str],
    hold: Callable[[str, Array], str],
    fold: bool,
) -> str:
    """Convolution, normalisation, activation; the two first as one where they are folded."""
    w, b = arrays[f"{layer}.conv.weight"], arrays[f"{layer}.conv.bias"]
    scale, shift, mean, var = (arrays[f"{layer}.bn.{field}"] for field in _PARTS["bn"])
    slope = scale / np.sqrt(var + np.float32(EPSILON))
    if fold:
        w, b = w * slope[:, None, None, None], (b - mean) * slope + shift
    side = w.shape[-1]
    pads = [1, 1, 1, 1] if side == 3 else [0, 0, 0, 0]
    held = [hold(f"{layer}.conv.weight", w), hold(f"{layer}.conv.bias", b)]
    x = add("Conv", layer, x, *held, kernel_shape=[side, side], pads=pads)
    if not fold:
        held = [
            hold(f"{layer}.bn.{field}", arrays[f"{layer}.bn.{field}"]) for field in _PARTS["bn"]
        ]
        x = add("BatchNormalization", layer, x, *held, epsilon=EPSILON)
    return add("Relu", layer, x)
