"""Tools as OpenAI had them first: `functions`, and a `function_call` at a time. GigaChat's API has no other.

A request body that is ready is rewritten; the reply needs nothing, as `openai_chat.ChatReader` reads `function_call` too.
https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/post-chat
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson


def rewrite(body: dict[str, Any], dropped: list[str]) -> None:
    """Put a body of Chat Completions as GigaChat takes it.

    Args:
        body: Is changed.
        dropped: Gets the names of what cannot be said.
    """
    body["messages"] = list(_messages(body["messages"], dropped))
    body.pop("response_format", None)  # what it asks for is said in words as well
    tools, choice = body.pop("tools", None), body.pop("tool_choice", "auto")
    if not tools:
        return
    functions = [tool["function"] for tool in tools]
    if choice == "required" and len(functions) == 1:
        choice = {"function": functions[0]}
    elif choice == "required":
        dropped.append("tool_choice")
        choice = "auto"
    body["functions"] = functions
    body["function_call"] = choice if isinstance(choice, str) else {"name": choice["function"]["name"]}


def _messages(messages: Iterable[dict[str, Any]], dropped: list[str]) -> Iterator[dict[str, Any]]:
    """What the system says in front of all others and in one, text alone, and each call followed by its own result."""
    rest: list[dict[str, Any]] = []
    system: list[str] = []
    for message in messages:
        if message["role"] == "system":
            system.append(message["content"])
        else:
            rest.append(message)
    if system:
        yield {"role": "system", "content": "\n\n".join(system)}
    place = 0
    while place < len(rest):
        message, place = rest[place], place + 1
        if "tool_calls" not in message:
            yield {**message, "content": _text(message["content"], dropped)}
            continue
        results = {}  # of this turn: some clients use the same id in each
        while place < len(rest) and rest[place]["role"] == "tool":
            results[rest[place]["tool_call_id"]] = rest[place]["content"]
            place += 1
        yield from _calls(message, results)


def _calls(message: Mapping[str, Any], results: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    said = message["content"] or ""
    for call in message["tool_calls"]:
        function = call["function"]
        asked = {"name": function["name"], "arguments": orjson.loads(function["arguments"])}
        yield {"role": "assistant", "content": said, "function_call": asked}
        yield {"role": "function", "name": function["name"], "content": _result(results.get(call["id"], ""))}
        said = ""


def _result(content: str) -> str:
    """What a function gave, as the JSON object that is demanded."""
    try:
        if isinstance(orjson.loads(content), dict):
            return content
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps({"result": content}).decode()


def _text(content: Any, dropped: list[str]) -> str:
    if isinstance(content, str):
        return content
    if any(part.get("type") != "text" for part in content):
        dropped.append("images")
    return "\n".join(part["text"] for part in content if part.get("type") == "text")
