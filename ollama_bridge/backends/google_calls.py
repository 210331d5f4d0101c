"""Tool calls of Gemini: whole, or their arguments in pieces, each with the JSON path where it belongs. Pure.

`FunctionCall.partialArgs` and `willContinue` are Vertex's, and of Gemini 3 and later
(https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling).
"""

import hashlib
import itertools
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Json: TypeAlias = Mapping[str, Any]
Step: TypeAlias = str | int

_MOST_ELEMENTS: Final = 100_000
"""Of a list that is sent in pieces: a path may name any index, and what lies before it is filled up."""

_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]]+) | \[(?P<index>\d+)\] | \['(?P<single>(?:[^'\\]|\\.)*)'\] | \["(?P<double>(?:[^"\\]|\\.)*)"\]""",
    re.VERBOSE,
)
_ESCAPED: Final = re.compile(r"\\(.)")


class PartialCall:
    """One call."""

    __slots__ = ("arguments", "call_id", "name")

    def __init__(self, name: str, call_id: str) -> None:
        self.name = name
        self.call_id = call_id
        self.arguments: dict[str, Any] = {}

    def add(self, call: Json) -> None:
        """Take in what one `functionCall` part adds.

        Raises:
            KeyError, IndexError, TypeError, ValueError: It makes no sense.
        """
        if args := call.get("args"):
            self.arguments |= args
        for piece in call.get("partialArgs") or ():
            self._put(path_steps(piece["jsonPath"]), piece)

    def is_gone_on_with(self, name: str, call_id: str) -> bool:
        """Whether a part that names a call means this one once more."""
        return name == self.name and bool(call_id) and call_id == self.call_id

    def _put(self, path: list[Step], piece: Json) -> None:
        here: Any = self.arguments
        for step, following in itertools.pairwise(path):
            inner = _at(here, step)
            if inner is None:
                inner = [] if isinstance(following, int) else {}
                here[step] = inner
            here = inner
        before = _at(here, last := path[-1])
        if "stringValue" in piece:
            here[last] = (before or "") + piece["stringValue"]
        else:
            here[last] = piece.get("numberValue", piece.get("boolValue"))


def _at(here: Any, step: Step) -> Any:
    """What stands there; None where nothing does yet, and then there is room for it."""
    if isinstance(here, dict) and isinstance(step, str):
        return here.get(step)
    if not isinstance(here, list) or not isinstance(step, int) or step > _MOST_ELEMENTS:
        raise TypeError("a path that does not fit what is there")
    here.extend([None] * (step + 1 - len(here)))
    return here[step]


def path_steps(path: str) -> list[Step]:
    """A path such as `$.a[0]['b.c']` in its steps.

    Raises:
        ValueError: It is none, or leads nowhere.
    """
    steps: list[Step] = []
    at = 1
    while path[:1] == "$" and (found := _STEP.match(path, at)):
        at = found.end()
        if found["index"] is not None:
            steps.append(int(found["index"]))
        else:
            quoted = found["single"] if found["double"] is None else found["double"]
            steps.append(found["name"] if quoted is None else _ESCAPED.sub(r"\1", quoted))
    if at != len(path) or not steps:
        raise ValueError("not a path")
    return steps


def made_up_id(reply: str, number: int, name: str) -> str:
    """An id for a call that came without: unlike those of other replies, the same for the same reply.

    Args:
        reply: What the provider calls the reply, or its place in the conversation.
        number: Of the call in it, from 1.
        name: Of the tool.
    """
    seed = f"{reply}:{number}:{name}"
    return f"call_{hashlib.blake2s(seed.encode(), digest_size=6).hexdigest()}"
