"""Fill in the middle as Mistral, DeepSeek and OpenAI's old Completions take it. Pure: a gap in, a JSON body out.

Their replies are those of Chat Completions, but that some call the text of a choice `text`: `openai_chat.ChatReader`
reads both.
"""

from dataclasses import replace
from typing import Final

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.dialect import Dialect
from ollama_bridge.backends.openai_wire import Prepared
from ollama_bridge.chat import ChatRequest, Infill
from ollama_bridge.infill import DEFAULT_TOKENS, urgent_first

MISTRAL: Final = "/fim/completions"
"""How the URL ends where Mistral's own dialect is spoken."""

_NAMES: Final = {"temperature": "temperature", "top_p": "top_p", "stop": "stop"}
"""What all of them take; of seeds and penalties each has its own idea."""


def prepare(request: ChatRequest, gap: Infill, url: str, dialect: Dialect) -> Prepared:
    """The body of one request, and what else is to be done about it; as `openai_chat.prepare`.

    Args:
        request: The question; what it says of conversations is not looked at.
        gap: What to fill.
        url: Where: Mistral always counts the tokens, and refuses what it does not know.
        dialect: Of who will read this.
    """
    stop = request.options.get("stop") or ()
    stops = urgent_first([stop] if isinstance(stop, str) else stop)
    prepared = Prepared(replace(request, options={**request.options, "stop": stops}), _NAMES)
    prepared.body |= {
        "prompt": gap.prefix,
        "suffix": gap.suffix,
        "max_tokens": wire.limit(request, dialect) or DEFAULT_TOKENS,
        "stream": True,
        **prepared.sampling,
    }
    if dialect.stream_options and not url.endswith(MISTRAL):
        prepared.body["stream_options"] = {"include_usage": True}
    return prepared
