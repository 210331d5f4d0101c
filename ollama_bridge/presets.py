"""What a model of one's own adds to every conversation with the model it was made from. Pure.

`ollama create` writes such models from a Modelfile: `SYSTEM`, `PARAMETER`, `MESSAGE`, `TEMPLATE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from ollama_bridge.chat import ChatRequest, Message
from ollama_bridge.templates import wording


@dataclass(frozen=True, slots=True)
class Preset:
    """The additions; nothing by default.

    Args:
        system: System prompt of conversations that bring none.
        messages: How every conversation begins.
        options: Generation options, by Ollama's names, where the client does not set them.
        template: A Go template as the client wrote it; `templates` says what effect it has.
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

    Raises:
        InvalidTemplate: The preset's template is none; a configured one is, a client's may be anything.
    """
    if preset.options:
        request = replace(request, options={**preset.options, **request.options})
    if not request.messages:
        return request
    said = (*preset.messages, *request.messages) if begins and preset.messages else request.messages
    if preset.system and request.messages[0].role != "system":
        said = (Message("system", preset.system), *said)
    if preset.template:
        said = _worded(said, preset.template, all_of_them=begins)
    return request if said is request.messages else replace(request, messages=said)


def _worded(messages: tuple[Message, ...], template: str, *, all_of_them: bool) -> tuple[Message, ...]:
    """The prompts put as the template says; of a conversation that continues by `context` only the last is new."""
    put = wording(template)
    if put is None:
        _note_without_effect(template)
        return messages
    places = [at for at, message in enumerate(messages) if message.role == "user" and message.content]
    said = list(messages)
    for at in places if all_of_them else places[-1:]:
        said[at] = replace(said[at], content=put.of(said[at].content))
    return tuple(said)


@lru_cache(maxsize=256)
def _note_without_effect(template: str) -> None:
    """Say it in the log, once for each template."""
    import structlog  # noqa: PLC0415 - commands that only look at models must not wait for it

    log = structlog.get_logger(__name__)
    log.info("a template has no effect: it is for a local model", characters=len(template))
