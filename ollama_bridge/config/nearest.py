"""What somebody may have meant who wrote a word that nobody knows."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from ollama_bridge.backends import KINDS

_OF_MODELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "claude": "anthropic",
        "gpt": "openai",
        "chatgpt": "openai",
        "gemini": "google",
        "grok": "xai",
        "x-ai": "xai",
        "glm": "zai",
        "z-ai": "zai",
        "zhipu": "bigmodel",
        "zhipuai": "bigmodel",
        "kimi": "moonshot",
        "moonshotai": "moonshot",
        "qwen": "dashscope",
        "alibaba": "dashscope",
        "hf": "huggingface",
        "workers-ai": "cloudflare",
        "sber": "gigachat",
        "llama.cpp": "llamacpp",
        "llama-cpp": "llamacpp",
    }
)
"""What people call providers, by their models, their owners or in another spelling, to their kinds."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean '…'?`, or nothing when no known word is near."""
    spellings = {one.lower(): one for one in known}
    near = get_close_matches(word.lower(), spellings, n=1)
    return f"; did you mean '{spellings[near[0]]}'?" if near else ""


def no_such_kind(provider: str, kind: str) -> str:
    """What is wrong with an entry of `providers` whose kind, or name where it gives none, is nobody's.

    Args:
        provider: The entry's name.
        kind: What it gives; empty: nothing.
    """
    said, sign = (
        (f"provider '{provider}': no kind is called '{kind}'", "; known:")
        if kind
        else (f"provider '{provider}' needs a kind", ":")
    )
    others = (
        f"{sign} {', '.join(KINDS)}, or module:Class; who else speaks OpenAI's API is openai, with a base_url"
    )
    return said + (_meant(kind or provider) or others)


def near_provider(word: str, known: Iterable[str]) -> str:
    """`; did you mean '…'?` of a provider that a model names and nobody is, or nothing."""
    return _meant(word, [*known, *KINDS])


def _meant(word: str, known: Iterable[str] = KINDS) -> str:
    kind = _OF_MODELS.get(word.lower())
    return f"; did you mean '{kind}'?" if kind else suggestion(word, known)
