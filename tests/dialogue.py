"""A provider that listens: what it says follows from what it is asked, on each of the four wires.

    weatherman = Weatherman(wire)
    async with Upstream(weatherman) as upstream: ...
    weatherman.heard[-1]      # the last request as `Part`s, whatever the wire

Asked about the weather, with a tool at hand, it calls the tool for each city of the question; given the results it
repeats them; shown a picture it tells the media type; asked for a schema it answers by it; else it repeats the question.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from upstream import Script, Seen, split_at_random
from wires import Said, Wire

CITIES = re.compile("Paris|Rome|Oslo")
TEXT_TYPES = {"text", "input_text", "output_text"}


@dataclass(frozen=True)
class Part:
    """One thing that a request says.

    `text` is of a call its arguments, of a picture its base64; `id` of a picture its media type.
    """

    kind: Literal["user", "said", "call", "result", "picture"]
    text: str
    id: str = ""
    name: str = ""


def blocks(content: Any) -> list[dict[str, Any]]:
    """A content that may be a string, nothing, or a list of blocks, as a list of blocks."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content or []


def data_url(url: str) -> Part:
    media_type, data = url.removeprefix("data:").split(";base64,")
    return Part("picture", data, media_type)


def words(role: str, content: Any) -> Iterator[Part]:
    for block in blocks(content):
        if block["type"] in TEXT_TYPES:
            yield Part("said" if role == "assistant" else "user", block["text"])
        elif block["type"] == "image_url":
            yield data_url(block["image_url"]["url"])
        elif block["type"] == "input_image":
            yield data_url(block["image_url"])


def anthropic(body: dict[str, Any]) -> Iterator[Part]:
    for message in body["messages"]:
        for block in blocks(message["content"]):
            match block["type"]:
                case "tool_use":
                    yield Part("call", json.dumps(block["input"]), block["id"], block["name"])
                case "tool_result":
                    text = "".join(one["text"] for one in blocks(block["content"]))
                    yield Part("result", text, block["tool_use_id"])
                case "image":
                    yield Part("picture", block["source"]["data"], block["source"]["media_type"])
                case _:
                    yield from words(message["role"], [block])


def responses(body: dict[str, Any]) -> Iterator[Part]:
    for item in body["input"]:
        match item.get("type", "message"):
            case "function_call":
                yield Part("call", item["arguments"], item["call_id"], item["name"])
            case "function_call_output":
                text = "".join(one["text"] for one in blocks(item["output"]))
                yield Part("result", text, item["call_id"])
            case "message":
                yield from words(item["role"], item["content"])


def chat(body: dict[str, Any]) -> Iterator[Part]:
    for message in body["messages"]:
        if message["role"] == "tool":
            yield Part("result", message["content"], message["tool_call_id"])
            continue
        yield from words(message["role"], message["content"])
        for call in message.get("tool_calls", ()):
            yield Part("call", call["function"]["arguments"], call["id"], call["function"]["name"])


def google(body: dict[str, Any]) -> Iterator[Part]:
    for content in body["contents"]:
        for part in content["parts"]:
            match part:
                case {"functionCall": called}:
                    yield Part("call", json.dumps(called["args"]), called["id"], called["name"])
                case {"functionResponse": told}:
                    yield Part("result", told["response"]["output"], told["id"], told["name"])
                case {"inlineData": data}:
                    yield Part("picture", data["data"], data["mimeType"])
                case {"text": text}:
                    yield Part("said" if content["role"] == "model" else "user", text)


READ: dict[str, Callable[[dict[str, Any]], Iterator[Part]]] = {
    "anthropic": anthropic,
    "responses": responses,
    "chat": chat,
    "google": google,
}
SCHEMA_AT = {
    "anthropic": ("output_config", "format", "schema"),
    "responses": ("text", "format", "schema"),
    "chat": ("response_format", "json_schema", "schema"),
    "google": ("generationConfig", "responseJsonSchema"),
}


def schema_of(wire: Wire, body: dict[str, Any]) -> Any:
    """The schema that a request demands, or None."""
    found: Any = body
    for key in SCHEMA_AT[wire.name]:
        found = (found or {}).get(key)
    return found


class Weatherman:
    """What `Upstream(decide=…)` asks. Its bodies arrive cut at arbitrary borders."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.heard: list[list[Part]] = []

    def __call__(self, seen: Seen) -> Script:
        self.heard.append(list(READ[self.wire.name](seen.json)))
        said = self._says(self.heard[-1], seen.json)
        pieces = split_at_random(self.wire.stream(said), seed=len(self.heard))
        return Script(pieces)

    def _says(self, parts: list[Part], body: dict[str, Any]) -> Said:
        last = parts[-1]
        if last.kind == "result":
            results = list(takewhile(lambda part: part.kind == "result", reversed(parts)))
            return Said("Now: " + "; ".join(part.text for part in reversed(results)))
        asked = "".join(part.text for part in parts[-2:] if part.kind == "user")
        if cities := CITIES.findall(last.text) if "tools" in body else ():
            earlier = sum(part.kind == "call" for part in parts)
            calls = tuple(("get_weather", {"city": city}) for city in cities)
            return Said("Let me look.", calls=calls, first_call=earlier)
        if pictures := [part for part in parts if part.kind == "picture"]:
            size = len(base64.b64decode(pictures[-1].text))
            return Said(f"{pictures[-1].id} of {size} bytes")
        if schema_of(self.wire, body):
            return Said('{"n": 4}')
        return Said(f"You said: {asked.strip()}")
