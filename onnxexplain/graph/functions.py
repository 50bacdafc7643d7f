"""Functions: those of the model itself, and operators that the standard defines by one."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import onnx
import onnx.inliner

from onnxexplain.graph import weightless
from onnxexplain.graph.inference import inferred
from onnxexplain.graph.node import read_nodes, reads
from onnxexplain.graph.spelled import spelled

Role = Callable[[str, str], str]
"""The role of an operator (domain, type) on the way back; empty where it has none."""

DEEPEST = 8
"""So many functions may stand inside one another."""


def inline(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model without functions of its own."""
    if not model.functions:
        return model, []
    return onnx.inliner.inline_local_functions(model), ["functions inlined"]


def expand(model: onnx.ModelProto, role_of: Role, newest: int) -> tuple[onnx.ModelProto, list[str]]:
    """Expand operators on the way of a float that the standard defines by a function.

    Those without a rule of their own, and those newer than the runtime. An operator that the rules
    know whole (a normalisation, Gelu) stays whole.
    """
    version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    expanded: list[str] = []
    for _ in range(DEEPEST):
        found = _expandable(model, role_of, newest, version)
        if not found:
            break
        model = weightless.apply(functools.partial(_inlined, sorted(found)), model)
        del model.graph.value_info[:]
        for node, read in zip(model.graph.node, read_nodes(model.graph), strict=True):
            node.name = read.name
        expanded += [f"{op_type} by its definition" for _, op_type in sorted(found)]
    return model, list(dict.fromkeys(expanded))


def _inlined(found: list[tuple[str, str]], model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.inliner.inline_selected_functions(
        _typed(model), found, exclude=False, inline_schema_functions=True
    )


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the type of every tensor written: a definition may depend on it."""
    typed = inferred(model)
    named = {v.name for v in typed.graph.value_info}
    typed.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in typed.graph.initializer
        if t.name not in named
    )
    return typed


def _expandable(
    model: onnx.ModelProto, role_of: Role, newest: int, version: int
) -> set[tuple[str, str]]:
    known = min(version, onnx.defs.onnx_opset_version())
    reached = {v.name for v in model.graph.input}
    found = set()
    for node in model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        role = role_of(domain, node.op_type)
        if reached.isdisjoint(reads(node)):
            continue
        if role != "stop":
            reached.update(node.output)
        if domain or not onnx.defs.has(node.op_type, known, domain):
            continue
        schema: Any = onnx.defs.get_schema(node.op_type, known, domain)
        if not (schema.has_function or schema.has_context_dependent_function):
            continue
        if schema.since_version > newest or not (role or spelled(domain, node.op_type)):
            found.add((domain, node.op_type))
    return found


def defined(domain: str, op_type: str, inner: Collection[str] = ()) -> bool:
    """Whether the standard, or the model's functions ``inner``, define an operator by others."""
    if op_type in inner:
        return True
    if domain or not onnx.defs.has(op_type, onnx.defs.onnx_opset_version(), domain):
        return False
    schema: Any = onnx.defs.get_schema(op_type)
    return bool(schema.has_function or schema.has_context_dependent_function)
