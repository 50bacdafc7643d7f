"""Operators from elsewhere: registered by a user, or by an installed package.

A package says in its ``pyproject.toml`` which module registers its operators::

    [project.entry-points."onnxexplain.operators"]
    mine = "my_package.explained"

That module is imported when the first model is explained or inspected.
"""

import functools
import importlib
import importlib.metadata
from collections.abc import Callable

from onnxexplain.errors import MethodError, ModelError
from onnxexplain.graph.spelled import Spelling, spelled, spelling
from onnxexplain.ops import Back, Offset, find, operator

GROUP = "onnxexplain.operators"
"""The entry points that are imported."""


def register_operator(
    domain: str,
    op_type: str,
    *,
    role: str = "activation",
    offset: Offset | None = None,
    replace: bool = False,
) -> Callable[[Back], Back]:
    """Register the decorated function as the way back through an operator.

    Parameters
    ----------
    domain, op_type
        the operator; the standard's own domain is ``""``.
    role
        what it is to a rule: ``linear``, ``sum``, ``product``, ``activation``, ``normalisation``,
        ``softmax``, ``pooling``, ``routing``, ``reduction`` or ``stop``.
    offset
        ``offset(xp, y, *inputs, varies, **attributes)``: ``y - sum(J_i x_i)`` over the inputs that
        vary. Without one the total is found as what is missing, and has no map.
    replace
        take the place of an operator that is known already.

    Returns
    -------
    callable
        decorates ``back(xp, g, y, *inputs, **attributes)``, which returns the derivative at each
        input, or None; ``xp`` has the words of :class:`onnxexplain.tensor.Namespace`, so that the
        same function runs on NumPy, on CuPy and as ONNX nodes.

    Raises
    ------
    MethodError
        if the operator is known already, or there is no such role.

    Examples
    --------
    >>> @ox.register_operator("my.domain", "Cube")
    ... def cube(xp, g, y, x):
    ...     return (g * (3.0 * x * x),)
    """
    if not replace and find(domain, op_type) is not None:
        raise MethodError(f"{_named(domain, op_type)} is known already; say replace=True")
    try:
        return operator(op_type, domain=domain, role=role, offset=offset)
    except ValueError as error:
        raise MethodError(str(error)) from error


def register_lowering(
    domain: str, op_type: str, *, replace: bool = False
) -> Callable[[Spelling], Spelling]:
    """Register the decorated function as how an operator is spelled out in standard ones.

    It takes an :class:`onnxexplain.Scope`, writes nodes that give the operator's outputs under
    their own names, and returns True; False where it cannot.

    Raises
    ------
    MethodError
        if the operator is spelled out already.

    Examples
    --------
    >>> @ox.register_lowering("my.domain", "Cube")
    ... def cube(scope):
    ...     (x,), (y,) = scope.node.inputs, scope.node.outputs
    ...     scope.write("Mul", x, scope.write("Mul", x, x), to=y)
    ...     return True
    """
    if not replace and spelled(domain, op_type):
        raise MethodError(f"{_named(domain, op_type)} is spelled out already; say replace=True")
    return spelling(op_type, domain=domain)


def _named(domain: str, op_type: str) -> str:
    return f"{domain}.{op_type}" if domain else op_type


@functools.cache
def load_installed() -> None:
    """Import what installed packages register, once.

    Raises
    ------
    ModelError
        if one of them cannot be imported.
    """
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # somebody else's code may raise anything
            raise ModelError(
                f"the plugin {entry.name} ({entry.value}) cannot be loaded: {error}; "
                "mend or uninstall the package that brings it"
            ) from error


def load_module(name: str) -> None:
    """Import a module that registers operators.

    Raises
    ------
    MethodError
        if it cannot be imported.
    """
    try:
        importlib.import_module(name)
    except Exception as error:  # somebody else's code may raise anything
        raise MethodError(
            f"--plugin {name}: cannot be imported ({type(error).__name__}: {error}); "
            "it must be a module on Python's path"
        ) from error
