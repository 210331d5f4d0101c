"""How each provider says that a conversation is too long for its model: data, and who looks it up."""

import re
from collections.abc import Iterable
from typing import Final

OVERFLOW_CODES: Final = frozenset(
    {
        "context_length_exceeded",  # OpenAI, Groq, Cerebras, DeepSeek
        "context_window_exceeded",
        "exceed_context_size_error",  # llama.cpp
        "string_above_max_length",  # OpenAI, of one message
        "prompt_too_long",
        "1261",  # Z.ai
        "3051",  # Mistral
        1261,
        3051,
    }
)
"""An error's `code` or `type`."""

OVERFLOW_WORDS: Final = (
    r"prompt is too long",  # Anthropic
    r"input length and `?max_tokens`? exceed context limit",  # Anthropic
    r"maximum context length",  # OpenAI, OpenRouter, vLLM, DeepSeek, Mistral
    r"exceeds? the (?:model's )?context (?:window|length|size)",  # OpenAI's Responses, a real Ollama
    r"exceeds? the (?:available )?context (?:window|length|size)",  # llama.cpp
    r"longer than the context length",  # a real Ollama
    r"exceeds the maximum number of tokens",  # Gemini
    r"maximum prompt length is \d+",  # xAI
    r"reduce the length of (?:the|your) (?:messages|prompt|input)",  # Groq, Cerebras
    r"too many tokens: size limit exceeded",  # Cohere
    r"`?inputs`? tokens \+ `?max_new_tokens`? must be",  # Together, Hugging Face
    r"exceeded (?:the )?model token limit",  # Moonshot
    r"context window exceeds limit",  # MiniMax
    r"prompt exceeds max(?:imum)? length",  # Z.ai
    r"range of input length should be",  # Alibaba
    r"input is too long for requested model",  # Bedrock
)
"""Patterns in an error's message, for those who have no code of its own for it."""

_WORDS: Final = re.compile("|".join(OVERFLOW_WORDS), re.IGNORECASE)


def overflows(kinds: Iterable[str | int], message: str) -> bool:
    """Whether a refusal with these codes and this message is for the length of the conversation."""
    return any(kind in OVERFLOW_CODES for kind in kinds) or _WORDS.search(message) is not None
