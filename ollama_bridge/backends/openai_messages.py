"""The messages of a conversation as Chat Completions takes them, and as the stricter of its imitators do. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.dialect import Dialect, Echo
from ollama_bridge.backends.openai_thoughts import echoed
from ollama_bridge.backends.openai_wire import Prepared
from ollama_bridge.chat import Message, Rules
from ollama_bridge.history import BEGINNING, short_id

SEEN: Final = "(The results have been read.)"
"""Said by the assistant between a tool and the user, where the user may not speak behind a tool."""


def to_wire(
    messages: Sequence[Message], prepared: Prepared, rules: Rules, dialect: Dialect
) -> list[dict[str, Any]]:
    """The messages to send.

    Args:
        messages: The conversation, repaired.
        prepared: Gives tools the names that they have on the wire.
        rules: Of the model.
        dialect: Of who will read this.
    """
    echo = dialect.echo if any(message.tool_calls for message in messages) else None
    written = _Writer(prepared, rules, dialect, echo).messages(messages)
    return _in_turns(written) if dialect.strict_roles else list(written)


class _Writer:
    def __init__(self, prepared: Prepared, rules: Rules, dialect: Dialect, echo: Echo | None) -> None:
        self._prepared = prepared
        self._rules = rules
        self._dialect = dialect
        self._echo = echo

    def messages(self, messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
        seen: list[dict[str, Any]] = []  # pictures that tools returned: a tool message cannot hold them
        for message in messages:
            if seen and message.role != "tool":
                yield {"role": "user", "content": seen}
                seen = []
            if message.role == "system":
                yield {"role": self._rules.system_role, "content": message.content}
            elif message.role == "user":
                yield {"role": "user", "content": _content(message)}
            elif message.role == "tool":
                yield {
                    "role": "tool",
                    "tool_call_id": self._id(message.tool_call_id),
                    "content": message.content,
                }
                seen += _pictures(message)
            elif message.content or message.tool_calls:
                yield self._assistant(message)
        if seen:
            yield {"role": "user", "content": seen}

    def _assistant(self, message: Message) -> dict[str, Any]:
        said: dict[str, Any] = {"role": "assistant", "content": message.content}
        if message.tool_calls:
            if self._dialect.null_content:
                said["content"] = message.content or None
            said["tool_calls"] = [
                {"id": self._id(call.id), "type": "function", "function": self._prepared.call(call)}
                for call in message.tool_calls
            ]
        if self._echo is not None:
            said.update(echoed(self._echo, message, self._prepared.body["model"]))
        return said

    def _id(self, given: str) -> str:
        return short_id(given) if self._rules.short_ids else given


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.content
    text = [{"type": "text", "text": message.content}] if message.content else []
    return [*text, *_pictures(message)]


def _pictures(message: Message) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": wire.data_url(image)}} for image in message.images]


def _in_turns(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same messages: the system's first, then user and assistant in turn, nobody twice but tools."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        last = turns[-1]["role"] if turns else "system"
        if message["role"] in {"system", "developer"} and last != "system":
            message = {**message, "role": "user"}  # noqa: PLW2901 - a system's word in the middle is heard from the user
        role = message["role"]
        if role == last and role != "tool" and turns:
            turns[-1] = _joined(turns[-1], message)
            continue
        if role == "user" and last == "tool":
            turns.append({"role": "assistant", "content": SEEN})
        elif role == "assistant" and last == "system":
            turns.append({"role": "user", "content": BEGINNING})
        turns.append(message)
    return turns


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """One message that says what two of the same role do."""
    one, other = first["content"], second["content"]
    if isinstance(one, list) or isinstance(other, list):
        content: object = [*_parts(one), *_parts(other)]
    else:
        content = "\n\n".join(filter(None, (one, other)))
    return {**first, **second, "content": content}


def _parts(content: Any) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
