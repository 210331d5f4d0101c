"""Recordings as a test needs them: each served by a fake provider to the running daemon, and read back from it.

`check.py`, beside the recordings, is the oracle: what a client should end up with.
"""

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Any
from zlib import crc32

from anthropic_asking import start, stop
from ollama_bridge.config import Config
from shared import SHARED
from upstream import Upstream, split_at_random, sse

FOLDER = SHARED / "recordings" if SHARED else None
IS_HERE = FOLDER is not None and FOLDER.is_dir()

WIRES: dict[str, tuple[dict[str, Any], str]] = {
    "anthropic": ({"kind": "anthropic"}, ""),
    "openai.responses": ({"kind": "openai", "api": "responses"}, "/v1"),
    "openai": ({"kind": "openai", "api": "chat", "fim": "completions"}, "/v1"),
    "cohere": ({"kind": "openai", "api": "chat"}, "/v1"),
    "gemini": ({"kind": "google"}, ""),
    "ollama": ({"kind": "ollama"}, ""),
}
"""An API, or the first part of its name, to the provider that is asked over it, and the end of its `base_url`."""

MANAGED = frozenset({"ollama.tags", "ollama.ps", "ollama.show", "ollama.pull", "ollama.version"})
"""APIs whose recordings are no answer of a model: `test_recordings_of_lists` replays them. An error is one as well: it
would be the same if anything else had been asked."""

NOT_THROUGH = {
    "ollama.version": "clients are told the version of the bridge's wire, whoever is behind it",
}
"""Why recordings of these APIs do not come through, as `test_recordings_of_lists` sees to."""


@cache
def oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recordings_oracle", FOLDER / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Recording:
    """One file: a provider's reply, and what it was an answer to."""

    name: str
    content: Mapping[str, Any] = field(repr=False)

    @property
    def provider(self) -> str:
        return self.content["provider"]

    @property
    def api(self) -> str:
        return self.content["api"]

    @property
    def model(self) -> str:
        return self.content["model"] or "x"

    @property
    def response(self) -> Mapping[str, Any]:
        return self.content["response"]

    @property
    def status(self) -> int:
        return self.response["status"]

    @property
    def facts(self) -> Mapping[str, Any]:
        return oracle().facts(self.content)[0]

    @property
    def is_error(self) -> bool:
        """Whether it is nothing but an error: of Mistral's flat ones the oracle makes nothing."""
        return self.status >= 400

    @property
    def fails(self) -> bool:
        """Whether it is an error, from the start or in the midst."""
        return self.is_error or bool(self.facts["errors"])

    @property
    def pauses(self) -> bool:
        """Whether the turn is to be gone on with by another request."""
        return self.facts["finish"] == "pause_turn"

    @property
    def excuse(self) -> str:
        """Why it is not replayed; empty: it is."""
        return NOT_THROUGH.get(self.api, "")

    @property
    def is_answer(self) -> bool:
        """Whether a model could be asked for it."""
        return self.is_error or self.api not in MANAGED

    @property
    def is_plain(self) -> bool:
        """Whether it is a text of some length, and nothing goes wrong."""
        return not self.fails and len(self.facts["text"]) > 50 and len(self.turns) == 1

    def serve(self, upstream: Upstream, way: str, body: bytes | None = None) -> None:
        """Answer with its bytes, or with these, from now on, split anew for every way of asking."""
        sent = self.response["body"].encode() if body is None else body
        pieces = split_at_random(sent, seed=crc32(f"{self.name} {way}".encode())) if sent else b""
        upstream.only(pieces, status=self.status, headers=self.response["headers"])
        if self.pauses:  # it is asked to go on, and has nothing to add
            upstream.reply(sse(start(input_tokens=0), *stop(output_tokens=0)))

    @property
    def turns(self) -> list["Recording"]:
        """Itself; of a file that holds a dialogue, the replies that stream something: the others end what a server-side
        tool had begun, which nobody who does not offer that tool gets."""
        body = self.response["body"]
        replies = re.split("(?=^event: message_start$)", body, flags=re.MULTILINE)
        if len(replies) <= 2:
            return [self]
        said = [reply for reply in replies if "content_block_start" in reply]
        return [
            replace(self, content={**self.content, "response": {**self.response, "body": reply}})
            for reply in said
        ]


@cache
def recordings() -> tuple[Recording, ...]:
    paths = sorted(FOLDER.glob("*/*.json")) if IS_HERE else []
    return tuple(
        Recording(f"{path.parent.name}/{path.stem}", json.loads(path.read_text(encoding="utf-8")))
        for path in paths
    )


def wire_of(api: str) -> str:
    """The key of `WIRES` for an API."""
    return api if api in WIRES else api.partition(".")[0]


def config(of: list[Recording], url: str) -> Config:
    """The recordings' models, each at a provider of the name that the recording says; each is asked once."""
    providers, models = {}, []
    for one in of:
        wire = wire_of(one.api)
        entry, base = WIRES[wire]
        key = f"{one.provider}-{wire}"
        providers[key] = {**entry, "api_key": "k-test", "base_url": url + base}
        models.append(
            {
                "name": one.name,
                "backend": key,
                "backend_model": one.model,
                "capabilities": ["completion", "tools", "vision", "thinking", "insert", "embedding"],
            }
        )
    return Config.model_validate(
        {
            "server": {"port": 0},
            "retry": {"max_retries": 0},
            "breaker": {"failures": 0},
            "providers": providers,
            "models": models,
        }
    )
