"""Replies that are odd: answers in one piece on every wire, and what becomes of one when a value in it is another."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from upstream import sse
from wires import WIRES, Said, Wire

TEXT = "one two three four five"
CALL = ("weather", {"city": "Rome"})
SAID = Said(TEXT, thinking="hm, well", calls=(CALL,))
JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}


def _message(said: Said) -> dict[str, Any]:
    content = [{"type": "thinking", "thinking": said.thinking, "signature": "c2ln"}]
    content += [{"type": "text", "text": said.text}]
    content += [
        {"type": "tool_use", "id": f"t{at}", "name": name, "input": arguments}
        for at, (name, arguments) in enumerate(said.calls)
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": "tool_use" if said.calls else "end_turn",
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }


def _completion(said: Said) -> dict[str, Any]:
    calls = [
        {"id": f"t{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for at, (name, arguments) in enumerate(said.calls)
    ]
    message = {
        "role": "assistant",
        "content": said.text,
        "reasoning_content": said.thinking,
        "tool_calls": calls,
    }
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


def _response(said: Said) -> dict[str, Any]:
    output = [{"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": said.thinking}]}]
    output += [{"type": "message", "id": "m", "content": [{"type": "output_text", "text": said.text}]}]
    output += [
        {"type": "function_call", "call_id": f"t{at}", "name": name, "arguments": json.dumps(arguments)}
        for at, (name, arguments) in enumerate(said.calls)
    ]
    usage = {"input_tokens": 11, "output_tokens": 7}
    return {"object": "response", "status": "completed", "error": None, "output": output, "usage": usage}


def _generation(said: Said) -> dict[str, Any]:
    parts = [{"text": said.thinking, "thought": True}, {"text": said.text}]
    parts += [{"functionCall": {"name": name, "args": arguments}} for name, arguments in said.calls]
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7},
    }


def _line(said: Said) -> dict[str, Any]:
    calls = [{"function": {"name": name, "arguments": arguments}} for name, arguments in said.calls]
    message = {"role": "assistant", "content": said.text, "thinking": said.thinking, "tool_calls": calls}
    return {
        "model": "m",
        "message": message,
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 11,
        "eval_count": 7,
    }


def _lines(said: Said) -> bytes:
    pieces = [{"thinking": said.thinking}, *({"content": word + " "} for word in said.text.split(" "))]
    spaced = [{"message": {"content": "", **piece}, "done": False} for piece in pieces]
    whole = _line(Said(calls=said.calls))
    return b"".join(json.dumps(line).encode() + b"\n" for line in (*spaced, whole))


OLLAMA = Wire("ollama", {"kind": "ollama", "api_key": "k-test"}, "", "llama9", _lines)
ALL_WIRES = [*WIRES, OLLAMA]

WHOLE: dict[str, Callable[[Said], dict[str, Any]]] = {
    "anthropic": _message,
    "responses": _response,
    "chat": _completion,
    "google": _generation,
    "ollama": _line,
}
"""A wire to its answer in one piece."""


@dataclass(frozen=True)
class Reply:
    """One reply as JSON, and how it is sent."""

    wire: Wire
    events: list[Any]
    is_whole: bool

    def body(self) -> bytes:
        if self.is_whole:
            return json.dumps(self.events[0]).encode()
        if self.wire is OLLAMA:
            return b"".join(json.dumps(event).encode() + b"\n" for event in self.events)
        return sse(*map(json.dumps, self.events), done=self.wire.name == "chat")

    @property
    def script(self) -> dict[str, Any]:
        """As arguments of `Upstream.only`."""
        stream = LINES if self.wire is OLLAMA else {"content-type": "text/event-stream"}
        return {"body": self.body(), "headers": JSON if self.is_whole else stream}

    def changed(self, change: Callable[[Any], Any]) -> "Reply":
        """With every object in it, from the inmost on, replaced by what `change` makes of it."""
        return Reply(self.wire, _mapped(self.events, change), self.is_whole)

    def with_each_value_as(self, *others: Any) -> Iterator[tuple[str, "Reply"]]:
        """Once for each value that it holds, and each of these in its place; of events of one shape, in the first."""
        shapes = [frozenset(_paths(event)) for event in self.events]
        for path in list(_paths(self.events)):
            if shapes.index(shapes[path[0]]) < path[0]:
                continue
            for other in others:
                events = copy.deepcopy(self.events)
                here = events
                for step in path[:-1]:
                    here = here[step]
                here[path[-1]] = other
                yield (
                    f"{'.'.join(map(str, path))} = {json.dumps(other)}",
                    Reply(self.wire, events, self.is_whole),
                )


def streamed(wire: Wire, said: Said = SAID) -> Reply:
    body = wire.stream(said)
    if wire is OLLAMA:
        return Reply(wire, [json.loads(line) for line in body.splitlines()], is_whole=False)
    lines = [line[6:] for line in body.splitlines() if line.startswith(b"data: ") and line != b"data: [DONE]"]
    return Reply(wire, [json.loads(line) for line in lines], is_whole=False)


def whole(wire: Wire, said: Said = SAID) -> Reply:
    return Reply(wire, [WHOLE[wire.name](said)], is_whole=True)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return change({name: _mapped(item, change) for name, item in value.items()})
    return value


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from _paths(item, (*path, name))
