"""Reasoning that vendors who speak OpenAI's wire want back while tools are called. Pure.

DeepSeek answers 400 to a turn that called tools and comes back without its `reasoning_content`; OpenRouter and Vercel
pass `reasoning_details` on to providers whose signatures they hold. Most clients send neither.
https://api-docs.deepseek.com/guides/thinking_mode, https://openrouter.ai/docs/use-cases/reasoning-tokens
"""

from collections.abc import Mapping
from typing import Any, Final

from ollama_bridge.backends.dialect import Echo
from ollama_bridge.backends.sealing import Kept, seal, unseal
from ollama_bridge.chat import Message

_KIND: Final = "chat"
"""The kind of what this backend seals: the member of a message that holds its reasoning."""

_GROWS: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""Which member of a detail comes piece by piece, by its `type`."""


class Thoughts:
    """The reasoning of one reply.

    Args:
        echo: How it goes back.
        in_loop: Whether tools have been called before, so that this turn is wanted back even if it calls none.
    """

    def __init__(self, echo: Echo, *, in_loop: bool) -> None:
        self._echo = echo
        self._in_loop = in_loop
        self._text: list[str] = []
        self._details: list[tuple[dict[str, Any], list[str]]] = []

    def add(self, delta: Mapping[str, Any], thought: str) -> None:
        """Take in one piece of a message, whose reasoning as text is `thought`."""
        if not self._echo.is_list:
            if thought:
                self._text.append(thought)
        elif isinstance(details := delta.get(self._echo.name), list):
            for detail in details:
                if isinstance(detail, dict):
                    self._detail(detail)

    def sealed(self, model: str, *, has_calls: bool) -> bytes:
        """All of it, for `Finish.sealed`; empty if nobody will want it back."""
        if not (has_calls or self._in_loop):
            return b""
        found: object = "".join(self._text)
        if self._echo.is_list:
            found = [
                {**detail, _GROWS[detail["type"]]: "".join(pieces)} if pieces else detail
                for detail, pieces in self._details
            ]
        return seal(_KIND, model, [Kept(0, 0, 0, {self._echo.name: found})] if found else [])

    def _detail(self, detail: dict[str, Any]) -> None:
        grown = detail.get(_GROWS.get(str(detail.get("type")), ""))
        last, pieces = self._details[-1] if self._details else ({}, [])
        if _goes_on(last, detail):
            last.update((name, value) for name, value in detail.items() if value is not None)
        else:
            pieces = []
            self._details.append((dict(detail), pieces))
        if isinstance(grown, str):
            pieces.append(grown)


def _goes_on(last: Mapping[str, Any], detail: Mapping[str, Any]) -> bool:
    """Whether a detail is more of the last one: of the same kind, in the same place, which is not signed yet."""
    kind, place = detail.get("type"), detail.get("index")
    if kind not in _GROWS or last.get("type") != kind or last.get("index") != place or last.get("signature"):
        return False
    return not (last.get("id") and detail.get("id")) or last["id"] == detail["id"]


def echoed(echo: Echo, message: Message, model: str) -> dict[str, Any]:
    """What an assistant's message gets for its reasoning: what was kept, or else what the client sends of it.

    Args:
        echo: How it goes back.
        message: What the model said.
        model: Who reads it; what another one sealed is not for it.
    """
    wanted = list if echo.is_list else str
    for kept in unseal(_KIND, model, message.sealed, lambda kept: type(kept.piece.get(echo.name)) is wanted):
        return {echo.name: kept.piece[echo.name]}
    return {} if echo.is_list else {echo.name: message.thinking or echo.unknown}
