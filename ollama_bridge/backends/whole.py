"""Answers in one piece, put as the events of the streams that they would have been. Sans I/O.

So each wire has one reader, whatever a gateway makes of `"stream": true`. All of it is read with `.get`: what has
not the shape of an answer gives no events, and what is of an odd type the readers refuse as in a stream.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ollama_bridge.backends import cohere_stream

_UNFINISHED: Final = frozenset({"queued", "in_progress"})


def completion(reply: Any) -> Iterable[Any]:
    """Chat Completions, Completions, Cohere's chat: one chunk, whose choices have a `message`."""
    if cohere_stream.is_reply(reply):
        return (reply,)
    if not isinstance(reply, dict) or not reply.get("choices"):
        return ()
    # Perplexity has an empty `delta` beside the message.
    return (
        {**reply, "choices": [{**choice, "delta": choice.get("message")} for choice in reply["choices"]]},
    )


def generation(reply: Any) -> Iterable[Any]:
    """Gemini: what `:generateContent` sends is what `:streamGenerateContent` sends, but all of it."""
    is_one = isinstance(reply, dict) and not reply.keys().isdisjoint({"candidates", "promptFeedback"})
    return (reply,) if is_one else ()


def message(reply: Any) -> Iterator[Any]:
    """Anthropic's Messages: each block begins and ends with all that it holds."""
    if not isinstance(reply, dict) or reply.get("type") != "message":
        return
    yield {"type": "message_start", "message": reply}
    for index, block in enumerate(reply["content"]):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    if reply.get("stop_reason"):
        yield {"type": "message_delta", "delta": reply}
        yield {"type": "message_stop"}


def response(reply: Any) -> Iterable[Any]:
    """OpenAI's Responses: one event that ends it, and holds all of it; of one that is not done, none that ends it."""
    if not isinstance(reply, dict) or "output" not in reply:
        return ()
    how = "in_progress" if reply.get("status") in _UNFINISHED else "completed"
    return ({"type": f"response.{how}", "response": reply},)
