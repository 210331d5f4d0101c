"""A provider with bugs, to be put into the table of backends under a name of its own."""

import asyncio

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.chat import ChatRequest, Reply
from ollama_bridge.events import Finish, TextDelta


class Misbehaving:
    """Does what the last word of the prompt says, with the prompt and the key in its local variables."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    async def chat(self, request: ChatRequest) -> Reply:
        prompt = request.messages[-1].content
        key = self._settings.api_keys[0]
        how = prompt.split()[-1]
        assert prompt
        assert key
        if how == "before":
            raise RuntimeError("a bug before the first word")
        if how == "reset":
            raise ConnectionResetError("not the client's")
        yield (TextDelta("one "),)
        if how == "at-once":  # in the same burst as the text
            raise ZeroDivisionError("a bug after the first word")
        await asyncio.sleep(0)
        match how:
            case "after":
                raise ZeroDivisionError("a bug after the first word")
            case "reset-later":
                raise ConnectionResetError("not the client's")
            case "nonsense":
                yield (TextDelta(object()),)  # type: ignore[arg-type]
            case "flood":
                while True:
                    yield (TextDelta("x" * 10_000),)
            case "silence":
                await asyncio.Event().wait()
        yield (Finish(),)
        if how == "too-late":
            raise RuntimeError("a bug after the end")

    async def warm(self) -> None:
        """Nothing to pay."""

    async def aclose(self) -> None:
        """Nothing to close."""
