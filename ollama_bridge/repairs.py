"""What is done about a parameter that a model refuses: data, and who does it to the body of a request. Pure.

`backends.refusals` reads it out of what the provider says, `policies.repair` tries it, `learned` remembers it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

Instead: TypeAlias = str | int | float | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Repair:
    """One parameter that one model refuses.

    Args:
        parameter: As the provider calls it, a path with dots: `temperature`, `reasoning.effort`.
        instead: What is put in its place: another name for it, the words that the model takes, or, a number, the
            most that it takes. None: it is left out.
        refused: The only value that is refused, if others may be taken.
        beside: The parameter, likewise as a path, that it cannot be sent together with; empty: not at all.
    """

    parameter: str
    instead: Instead = None
    refused: str = ""
    beside: str = ""

    @property
    def subject(self) -> str:
        """For people: what is refused."""
        words = (self.parameter, self.refused, f"beside {self.beside}" if self.beside else "")
        return " ".join(filter(None, words))

    @property
    def remedy(self) -> str:
        """For people: what is done about it."""
        if self.instead is None:
            return "left out"
        if isinstance(self.instead, int | float):
            return f"at most {self.instead:g}"
        if isinstance(self.instead, tuple):
            return f"one of {', '.join(self.instead)}"
        return f"sent as {self.instead}"


def mend(body: dict[str, Any], repairs: Iterable[Repair]) -> None:
    """Do to a finished request body what no rule of the model's could say: leave parameters out, or make them smaller."""
    for repair in repairs:
        if repair.beside and held(body, repair.beside) is None:
            continue
        *parents, name = repair.parameter.split(".")
        holder = held(body, ".".join(parents)) if parents else body
        if not isinstance(holder, dict) or name not in holder:
            continue
        if repair.refused and holder[name] != repair.refused:
            continue
        if isinstance(repair.instead, int | float):
            if isinstance(holder[name], int | float):
                holder[name] = min(holder[name], repair.instead)
        elif repair.instead is None:
            _leave_out(body, [*parents, name])


def held(body: object, path: str) -> Any:
    """What stands at `path`; None: nothing does."""
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _leave_out(body: dict[str, Any], path: list[str]) -> None:
    """With it goes what would be empty without it: some refuse that, too."""
    *parents, name = path
    holder = held(body, ".".join(parents)) if parents else body
    del holder[name]
    if parents and not holder:
        _leave_out(body, parents)
