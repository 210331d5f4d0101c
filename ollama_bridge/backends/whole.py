"""Answers in one piece, put as the events of the streams that they would have been. Sans I/O.

So each wire has one reader, whatever a gateway makes of `"stream": true`. All of it is read with `.get`: what has
not the shape of an answer gives no events, and what is of an odd type the readers refuse as in a stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ollama_bridge.backends import cohere_stream

_ENDINGS: Final[Mapping[str, str]] = {
    "failed": "response.failed",
    "incomplete": "response.incomplete",
}
"""A response's `status` to the event that ends its stream. Those that are not here yet have no end."""

_UNFINISHED: Final = frozenset({"queued", "in_progress", "cancelled"})


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


def response(reply: Any) -> Iterator[Any]:
    """OpenAI's Responses: every item of the output in one piece."""
    if not isinstance(reply, dict) or "output" not in reply:
        return
    for index, item in enumerate(reply["output"]):
        if item.get("type") == "message":
            yield from _said(item)
        elif item.get("type") == "reasoning":
            yield from _thought(item)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    status = reply.get("status")
    if status not in _UNFINISHED:
        yield {"type": _ENDINGS.get(str(status), "response.completed"), "response": reply}


def _said(item: Mapping[str, Any]) -> Iterator[Any]:
    for part in item.get("content") or ():
        if part.get("type") == "refusal":
            yield {"type": "response.refusal.delta", "delta": part["refusal"]}
        elif part.get("type") == "output_text":
            yield {
                "type": "response.output_text.delta",
                "delta": part["text"],
                "logprobs": part.get("logprobs"),
            }


def _thought(item: Mapping[str, Any]) -> Iterator[Any]:
    for part in item.get("summary") or ():
        yield {"type": "response.reasoning_summary_part.added"}
        yield {"type": "response.reasoning_summary_text.delta", "delta": part["text"]}
    for part in item.get("content") or ():
        yield {"type": "response.reasoning_text.delta", "delta": part["text"]}
