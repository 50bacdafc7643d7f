"""Everything one explanation computes, in words that both engines speak."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from onnxexplain.methods import account
from onnxexplain.methods._method import Method, Way
from onnxexplain.tensor import Tensor


@dataclass(frozen=True)
class Request:
    """What is asked for beyond attributions and totals."""

    layers: tuple[str, ...] = ()
    """Tensors whose score and block constant are returned whole."""
    maps: tuple[str, ...] = ()
    """Tensors whose score and block constant are returned summed over channels."""
    statistics: tuple[str, ...] = ()
    """Tensors whose score is returned as its maximum, minimum, sum and sum of squares."""
    spread: bool = False
    """Whether the constants are returned as maps, to be carried to the input."""
    attributions: bool = field(default=True)
    """Whether attributions and totals themselves are wanted."""


def answer(way: Way, method: Method, request: Request) -> Iterator[tuple[str, Tensor]]:
    """Yield every result under its name: ``attribution/<tensor>``, ``constant/<tensor>``, ..."""
    way = method.reading(way)
    xp = way.xp
    found = method(way)
    arrived = found.arrived
    if request.attributions:
        for name, value in found.attributions.items():
            yield f"attribution/{name}", value
        for name, value in found.extra.items():
            yield f"extra/{name}", value
        yield "score", xp.dot(way.seed, way.values[way.output])
        if method.shares:
            for name in way.wrt:
                yield f"total/{name}", way.dot(arrived[name], way.values[name])
            for name, total in account.constants(way, arrived):
                yield f"constants/{name}", total
    if not arrived:  # nothing was sent back: no layer has a share in it
        return
    if request.spread:
        yield from _spread(way, arrived)
    for name in request.layers:
        yield f"score/{name}", _score(way, method, arrived, name)
        if method.shares:
            yield f"constant/{name}", _constant(way, arrived, name)
    for name in request.statistics:
        yield from _statistics(way, _score(way, method, arrived, name), name)
    for name in request.maps:
        if method.shares:
            yield (
                f"score_map/{name}",
                way.channel_sum(name, _arrived(way, arrived, name), way.values[name]),
            )
            yield f"constant_map/{name}", _constant_map(way, arrived, name)
        else:
            yield f"score_map/{name}", way.channel_sum(name, _arrived(way, arrived, name), 1.0)


def _statistics(way: Way, score: Tensor, name: str) -> Iterator[tuple[str, Tensor]]:
    axes = list(range(1, score.ndim))
    yield f"maximum/{name}", way.xp.max(score, axis=axes)
    yield f"minimum/{name}", way.xp.min(score, axis=axes)
    yield f"sum/{name}", way.dot(score, way.xp.ones_like(score))
    yield f"squares/{name}", way.dot(score, score)


def _arrived(way: Way, arrived: dict[str, Tensor], name: str) -> Tensor:
    return arrived[name] if name in arrived else way.xp.zeros_like(way.values[name])


def _score(way: Way, method: Method, arrived: dict[str, Tensor], name: str) -> Tensor:
    g = _arrived(way, arrived, name)
    return way.xp.scale(g, way.values[name]) if method.shares else g


def _constant(way: Way, arrived: dict[str, Tensor], name: str) -> Tensor:
    parts = [way.xp.scale(g, offset) for g, offset in account.born(way, arrived, name)]
    return sum(parts[1:], parts[0]) if parts else way.xp.zeros_like(way.values[name])


def _constant_map(way: Way, arrived: dict[str, Tensor], name: str) -> Tensor:
    parts = [way.channel_sum(name, g, offset) for g, offset in account.born(way, arrived, name)]
    if parts:
        return sum(parts[1:], parts[0])
    return way.channel_sum(name, way.xp.zeros_like(way.values[name]), 1.0)


def _spread(way: Way, arrived: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield, for every node with an offset, the map of what it added, channels summed."""
    for node in way.nodes:
        tensor = node.outputs[0]
        if tensor not in arrived or way.values[tensor].ndim < 3:
            continue
        step = way.step(node)
        if step.operator.offset is not None and (offset := step.offset()) is not None:
            yield f"spread/{tensor}", way.channel_sum(tensor, arrived[tensor], offset)
