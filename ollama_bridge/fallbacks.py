"""Which models may answer for which, as the operator writes it: what cannot be meant. Pure."""

from collections.abc import Collection, Sequence

from ollama_bridge.catalog import ModelConfig
from ollama_bridge.errors import ConfigError
from ollama_bridge.lineage import key_of, places


class BrokenFallback(ConfigError):
    """A fallback that does not exist, or leads back to the model it is to stand in for.

    Args:
        message: Which, and what to do.
        index: Place of the model among those given.
        number: Place of the name among its fallbacks.
        unknown: The name, if it is nobody's.
    """

    def __init__(self, message: str, index: int, number: int, *, unknown: str = "") -> None:
        super().__init__(message)
        self.index = index
        self.number = number
        self.unknown = unknown


def check_fallbacks(models: Sequence[ModelConfig], elsewhere: Collection[str] = ()) -> None:
    """See that every fallback exists and that none goes round in a circle.

    Args:
        models: All there are, enabled or not.
        elsewhere: Keys of names that would exist if their provider had a key: taking a key away must not keep the
            daemon from starting.

    Raises:
        BrokenFallback: The first one that cannot be meant, in the order of the models.
    """
    known = places(models)
    ways: list[list[int | None]] = []
    for index, model in enumerate(models):
        ways.append([known.get(key_of(name)) for name in model.fallbacks])
        for number, (name, way) in enumerate(zip(model.fallbacks, ways[-1], strict=True)):
            if way is None and key_of(name) not in elsewhere:
                raise BrokenFallback(
                    f"model '{model.name}' falls back to '{name}', which does not exist",
                    index,
                    number,
                    unknown=name,
                )
    for index, model in enumerate(models):
        for number, way in enumerate(ways[index]):
            line = _back(ways, way, index)
            if line is not None:
                others = "".join(f", by way of '{models[at].name}'" for at in line)
                raise BrokenFallback(
                    f"model '{model.name}' falls back to itself{others}: take one of them out", index, number
                )


def _back(ways: Sequence[Sequence[int | None]], start: int | None, end: int) -> list[int] | None:
    """Who stands between a model and itself, if a way leads from `start` back to `end`."""
    lines: list[tuple[int | None, list[int]]] = [(start, [])]
    seen: set[int] = set()
    while lines:
        at, line = lines.pop()
        if at == end:
            return line
        if at is not None and at not in seen:
            seen.add(at)
            lines += [(way, [*line, at]) for way in ways[at]]
    return None
