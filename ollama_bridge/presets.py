"""What a model of one's own adds to every conversation with the model it was made from. Pure.

`ollama create` writes such models from a Modelfile: `SYSTEM`, `PARAMETER`, `MESSAGE`, `TEMPLATE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ollama_bridge.chat import ChatRequest, Message


@dataclass(frozen=True, slots=True)
class Preset:
    """The additions; nothing by default.

    Args:
        system: System prompt of conversations that bring none.
        messages: How every conversation begins.
        options: Generation options, by Ollama's names, where the client does not set them.
        template: A Go template as the client wrote it, shown by `/api/show`.
        license: Shown by `/api/show`.
        parent: Name of the model it was made from, as lists show it; empty: it was not made from one.
    """

    system: str = field(default="", repr=False)
    messages: tuple[Message, ...] = field(default=(), repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    template: str = field(default="", repr=False)
    license: str = field(default="", repr=False)
    parent: str = ""


NOTHING_ADDED: Final = Preset()


def primed(request: ChatRequest, preset: Preset, *, begins: bool = True) -> ChatRequest:
    """The request with what `preset` adds, as a real server adds it.

    Args:
        request: What the client asks.
        preset: Of the model it asks.
        begins: Whether the conversation begins with this request's messages: one that continues by `context`
            holds the preset's messages already.
    """
    if preset.options:
        request = replace(request, options={**preset.options, **request.options})
    if not request.messages:
        return request
    said = (*preset.messages, *request.messages) if begins else request.messages
    if preset.system and request.messages[0].role != "system":
        said = (Message("system", preset.system), *said)
    return request if said is request.messages else replace(request, messages=said)
