"""The catalogue itself: one row per model, and the rules that rows share. Data only; `catalog` looks things up.

Sources, as of `CATALOGUE_DATE`: the model literals of anthropic 2.11, openai 3.52 and google-genai 3.4, and the
providers' model pages (platform.claude.com, developers.openai.com, ai.google.dev). What no page states is set
to the more careful of the values its family has. Speech, image, deep-research and retired models are not here:
they can neither answer a chat nor embed.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from ollama_bridge.chat import Capability, Effort, Rules
from ollama_bridge.facts import Facts, embedder

CATALOGUE_DATE: Final = datetime(2026, 11, 20, tzinfo=UTC)
"""`modified_at` of every model: a constant, for clients cache and sort by it. It moves when rows change."""


_ALL: Final[tuple[Capability, ...]] = ("completion", "tools", "vision", "thinking")
_TALKS: Final[tuple[Capability, ...]] = ("completion", "tools")
# The same with `insert`: gaps in code are filled by asking the chat model (`policies.infill`). So may be asked who is
# quick, and whose thinking can be off, or nearly: nobody waits for the completion of a line.
_QUICK: Final[tuple[Capability, ...]] = ("completion", "tools", "insert", "vision", "thinking")
_FILLS: Final[tuple[Capability, ...]] = ("completion", "tools", "insert", "vision")
TALKS_AND_FILLS: Final[tuple[Capability, ...]] = ("completion", "tools", "insert")

_NO_EFFORTS: Final[tuple[Effort, ...]] = ()


# ---------------------------------------------------------------------------------------------- Anthropic

_CLAUDE_EFFORTS: Final[tuple[Effort, ...]] = ("low", "medium", "high", "xhigh", "max")
_CLAUDE_SAMPLING: Final = frozenset({"temperature", "top_p", "top_k", "stop"})
_CLAUDE_MAX_STOPS: Final = 8191


def _claude(
    *thinking: str,
    efforts: tuple[Effort, ...] = _CLAUDE_EFFORTS,
    forced_tools: bool = True,
    cached_from: int = 1024,
) -> Rules:
    """Claude 4.7 and later: no sampling options, no prefill; thinking is adaptive and its limits vary."""
    return Rules(
        accepts=frozenset({"stop"}),
        max_stops=_CLAUDE_MAX_STOPS,
        thinking=frozenset(thinking),
        efforts=efforts,
        prefill=False,
        forced_tools=forced_tools,
        cached_from=cached_from,
    )


_CLAUDE_4_5: Final = Rules(
    accepts=_CLAUDE_SAMPLING,
    max_stops=_CLAUDE_MAX_STOPS,
    thinking=frozenset({"budget", "disabled"}),
    efforts=_NO_EFFORTS,
    continues=True,
)
_CLAUDE_4_6: Final = Rules(
    accepts=_CLAUDE_SAMPLING,
    max_stops=_CLAUDE_MAX_STOPS,
    thinking=frozenset({"adaptive", "disabled"}),
    efforts=("low", "medium", "high", "max"),
    prefill=False,
)
_CLAUDE_ADAPTIVE: Final = _claude("adaptive", "disabled")
# `disabled` is refused: only the effort can be lowered. Who always thinks cannot be made to call a tool.
_CLAUDE_ALWAYS: Final = _claude("adaptive", forced_tools=False, cached_from=512)
_CLAUDE_SONNET_5_5: Final = _claude("adaptive", "between_tools", forced_tools=False, cached_from=512)

# The least that is cached goes neither by age nor by size:
# https://platform.claude.com/docs/en/build-with-claude/prompt-caching#cache-limitations
_ADAPTIVE_512: Final = replace(_CLAUDE_ADAPTIVE, cached_from=512)
_ADAPTIVE_2048: Final = replace(_CLAUDE_ADAPTIVE, cached_from=2048)
_ADAPTIVE_4096: Final = replace(_CLAUDE_ADAPTIVE, cached_from=4096)
_CLAUDE_4_6_4096: Final = replace(_CLAUDE_4_6, cached_from=4096)
_CLAUDE_4_5_4096: Final = replace(_CLAUDE_4_5, cached_from=4096)

SNAPSHOTS: Final[Mapping[str, str]] = MappingProxyType({"claude-haiku-4-5-20251001": "claude-haiku-4-5"})
"""Names of one version that clients ask for by themselves, to the id of the same model: Claude Code does its small
tasks with that one, unless `ANTHROPIC_DEFAULT_HAIKU_MODEL` names another."""

_ANTHROPIC: Final = (
    Facts("claude-opus-5-5", "Claude Opus 5.5", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ALWAYS),
    Facts("claude-sonnet-5-5", "Claude Sonnet 5.5", "claude", 1_000_000, 128_000, _QUICK, _CLAUDE_SONNET_5_5),
    Facts("claude-haiku-5-5", "Claude Haiku 5.5", "claude", 1_000_000, 128_000, _QUICK, _ADAPTIVE_4096),
    Facts("claude-fable-5-2", "Claude Fable 5.2", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ALWAYS),
    Facts("claude-fable-5-1", "Claude Fable 5.1", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ALWAYS),
    Facts("claude-opus-5", "Claude Opus 5", "claude", 1_000_000, 128_000, _ALL, _ADAPTIVE_512),
    Facts("claude-sonnet-5", "Claude Sonnet 5", "claude", 1_000_000, 128_000, _QUICK, _CLAUDE_ADAPTIVE),
    Facts("claude-opus-4-8", "Claude Opus 4.8", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ADAPTIVE),
    Facts("claude-opus-4-7", "Claude Opus 4.7", "claude", 1_000_000, 128_000, _ALL, _ADAPTIVE_2048),
    Facts("claude-opus-4-6", "Claude Opus 4.6", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_4_6_4096),
    Facts("claude-sonnet-4-6", "Claude Sonnet 4.6", "claude", 1_000_000, 64_000, _QUICK, _CLAUDE_4_6),
    Facts("claude-haiku-4-5", "Claude Haiku 4.5", "claude", 200_000, 64_000, _QUICK, _CLAUDE_4_5_4096),
    # Older, or for few: known, shown only when the operator names them.
    Facts("claude-fable-5", "Claude Fable 5", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ALWAYS, False),
    Facts(
        "claude-mythos-5-2", "Claude Mythos 5.2", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ALWAYS, False
    ),
    Facts(
        "claude-mythos-5-1", "Claude Mythos 5.1", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ALWAYS, False
    ),
    Facts("claude-mythos-5", "Claude Mythos 5", "claude", 1_000_000, 128_000, _ALL, _CLAUDE_ALWAYS, False),
    Facts("claude-opus-4-5", "Claude Opus 4.5", "claude", 200_000, 64_000, _ALL, _CLAUDE_4_5_4096, False),
    Facts("claude-sonnet-4-5", "Claude Sonnet 4.5", "claude", 200_000, 64_000, _QUICK, _CLAUDE_4_5, False),
)

# ------------------------------------------------------------------------------------------------- OpenAI

_CHAT_OPTIONS: Final = Rules().accepts


def _reasoning(*efforts: Effort) -> Rules:
    """o-series, gpt-5 and later: Responses API, no sampling options, `stop` or `seed` (the API has none)."""
    return Rules(
        api="responses",
        accepts=frozenset(),
        max_stops=0,
        thinking=frozenset({"effort"}),
        efforts=efforts,
        max_tokens_field="max_completion_tokens",
        system_role="developer",
    )


_GPT_4: Final = Rules(accepts=_CHAT_OPTIONS, thinking=frozenset(), efforts=_NO_EFFORTS)
_O_SERIES: Final = _reasoning("low", "medium", "high")
_GPT_5: Final = _reasoning("minimal", "low", "medium", "high")
_GPT_5_1: Final = _reasoning("none", "low", "medium", "high")
_GPT_5_2: Final = _reasoning("none", "low", "medium", "high", "xhigh")
_GPT_5_PRO: Final = _reasoning("high")
_GPT_5_2_PRO: Final = _reasoning("medium", "high", "xhigh")
_GPT_5_6: Final = _reasoning("none", "low", "medium", "high", "xhigh", "max")
_GPT_CODEX: Final = _reasoning("low", "medium", "high", "xhigh")
_GPT_6: Final = _reasoning("low", "medium", "high", "xhigh", "max")

_OPENAI: Final = (
    Facts("gpt-6-astra", "GPT-6 Astra", "gpt", 1_050_000, 128_000, _ALL, _GPT_6),
    Facts("gpt-6.1-sol", "GPT-6.1 Sol", "gpt", 1_050_000, 128_000, _ALL, _GPT_6),
    Facts("gpt-6.1-terra", "GPT-6.1 Terra", "gpt", 1_050_000, 128_000, _ALL, _GPT_6),
    Facts("gpt-6-luna", "GPT-6 Luna", "gpt", 1_050_000, 128_000, _QUICK, _GPT_5_6),
    Facts("gpt-5.6-sol", "GPT-5.6 Sol", "gpt", 1_050_000, 128_000, _ALL, _GPT_5_6),
    Facts("gpt-5.6-terra", "GPT-5.6 Terra", "gpt", 1_050_000, 128_000, _QUICK, _GPT_5_6),
    Facts("gpt-5.6-luna", "GPT-5.6 Luna", "gpt", 1_050_000, 128_000, _QUICK, _GPT_5_6),
    Facts("gpt-5.5", "GPT-5.5", "gpt", 1_050_000, 128_000, _ALL, _GPT_5_2),
    Facts("gpt-5.4", "GPT-5.4", "gpt", 1_050_000, 128_000, _QUICK, _GPT_5_2),
    Facts("gpt-5.4-mini", "GPT-5.4 mini", "gpt", 400_000, 128_000, _QUICK, _GPT_5_2),
    Facts("gpt-4.1", "GPT-4.1", "gpt", 1_047_576, 32_768, _FILLS, _GPT_4),
    Facts("gpt-4.1-mini", "GPT-4.1 mini", "gpt", 1_047_576, 32_768, _FILLS, _GPT_4),
    Facts("gpt-4o", "GPT-4o", "gpt", 128_000, 16_384, _FILLS, _GPT_4),
    # Older, dear, or soon shut down: known, shown only when the operator names them.
    Facts("gpt-6-sol", "GPT-6 Sol", "gpt", 1_050_000, 128_000, _ALL, _GPT_6, False),
    Facts("gpt-5.5-pro", "GPT-5.5 pro", "gpt", 1_050_000, 128_000, _ALL, _GPT_5_2_PRO, False),
    Facts("gpt-5.4-nano", "GPT-5.4 nano", "gpt", 400_000, 128_000, _QUICK, _GPT_5_2, False),
    Facts("gpt-5.2", "GPT-5.2", "gpt", 400_000, 128_000, _ALL, _GPT_5_2, False),
    Facts("gpt-5.2-pro", "GPT-5.2 pro", "gpt", 400_000, 128_000, _ALL, _GPT_5_2_PRO, False),
    Facts("gpt-5.1", "GPT-5.1", "gpt", 400_000, 128_000, _ALL, _GPT_5_1, False),
    Facts("gpt-5.1-codex-max", "GPT-5.1 Codex Max", "gpt", 400_000, 128_000, _ALL, _GPT_CODEX, False),
    Facts("gpt-5", "GPT-5", "gpt", 400_000, 128_000, _ALL, _GPT_5, False),
    Facts("gpt-5-mini", "GPT-5 mini", "gpt", 400_000, 128_000, _ALL, _GPT_5, False),
    Facts("gpt-5-nano", "GPT-5 nano", "gpt", 400_000, 128_000, _ALL, _GPT_5, False),
    Facts("gpt-5-pro", "GPT-5 pro", "gpt", 400_000, 272_000, _ALL, _GPT_5_PRO, False),
    Facts("gpt-5-codex", "GPT-5 Codex", "gpt", 400_000, 128_000, _ALL, _O_SERIES, False),
    Facts("o3", "o3", "gpt", 200_000, 100_000, _ALL, _O_SERIES, False),
    Facts("o3-pro", "o3 pro", "gpt", 200_000, 100_000, _ALL, _O_SERIES, False),
    Facts("o1-pro", "o1 pro", "gpt", 200_000, 100_000, _ALL, _O_SERIES, False),
    Facts("gpt-4o-mini", "GPT-4o mini", "gpt", 128_000, 16_384, _FILLS, _GPT_4, False),
    # For indexes: https://developers.openai.com/api/docs/guides/embeddings
    embedder("text-embedding-3-small", "OpenAI embedding 3 small", 8192, 1536, narrowest=1),
    embedder("text-embedding-3-large", "OpenAI embedding 3 large", 8192, 3072, narrowest=1),
    embedder("text-embedding-ada-002", "OpenAI embedding Ada 002", 8192, 1536, offered=False),
)

# ------------------------------------------------------------------------------------------------- Google

_GEMINI_MAX_STOPS: Final = 5
_GEMINI_OPTIONS: Final = _CHAT_OPTIONS | {"top_k"}


def _gemini_3(*efforts: Effort) -> Rules:
    """Gemini 3 and later: thinking by level; sampling options make it loop, so they are dropped."""
    return Rules(
        accepts=frozenset({"seed", "stop"}),
        max_stops=_GEMINI_MAX_STOPS,
        thinking=frozenset({"level"}),
        efforts=efforts,
    )


def _gemini_2_5(*efforts: Effort) -> Rules:
    return Rules(
        accepts=_GEMINI_OPTIONS,
        max_stops=_GEMINI_MAX_STOPS,
        thinking=frozenset({"budget"}),
        efforts=efforts,
    )


_GEMINI_FLASH: Final = _gemini_3("minimal", "low", "medium", "high")
_GEMINI_PRO: Final = _gemini_3("low", "medium", "high")  # also Flash from 3.7 on
_GEMINI_2_5_FLASH: Final = _gemini_2_5("none", "low", "medium", "high")
_GEMINI_2_5_PRO: Final = _gemini_2_5("minimal", "low", "medium", "high")  # a budget of 0 is refused
_GEMMA: Final = Rules(
    accepts=_GEMINI_OPTIONS, max_stops=_GEMINI_MAX_STOPS, thinking=frozenset(), efforts=_NO_EFFORTS
)

_GOOGLE: Final = (
    Facts("gemini-4-argon", "Gemini 4 Argon", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO),
    Facts("gemini-3.8-flash", "Gemini 3.8 Flash", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO),
    Facts("gemini-3.7-flash", "Gemini 3.7 Flash", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO),
    Facts("gemini-3.6-flash", "Gemini 3.6 Flash", "gemini", 1_048_576, 65_536, _QUICK, _GEMINI_FLASH),
    Facts(
        "gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite", "gemini", 1_048_576, 65_536, _QUICK, _GEMINI_FLASH
    ),
    Facts("gemini-3.1-pro-preview", "Gemini 3.1 Pro", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO),
    Facts(
        "gemini-3.1-flash-lite", "Gemini 3.1 Flash-Lite", "gemini", 1_048_576, 65_536, _QUICK, _GEMINI_FLASH
    ),
    Facts("gemini-2.5-pro", "Gemini 2.5 Pro", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_2_5_PRO),
    Facts("gemini-2.5-flash", "Gemini 2.5 Flash", "gemini", 1_048_576, 65_536, _QUICK, _GEMINI_2_5_FLASH),
    Facts(
        "gemini-2.5-flash-lite",
        "Gemini 2.5 Flash-Lite",
        "gemini",
        1_048_576,
        65_536,
        _QUICK,
        _GEMINI_2_5_FLASH,
    ),
    # Moving targets, previews and open weights: known, shown only when the operator names them.
    Facts("gemini-4-carbon", "Gemini 4 Carbon", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO, False),
    Facts("gemini-4-hydrogen", "Gemini 4 Hydrogen", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO, False),
    Facts("gemini-pro-latest", "Gemini Pro (latest)", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO, False),
    Facts(
        "gemini-flash-latest", "Gemini Flash (latest)", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_PRO, False
    ),
    Facts(
        "gemini-flash-lite-latest",
        "Gemini Flash-Lite (latest)",
        "gemini",
        1_048_576,
        65_536,
        _ALL,
        _GEMINI_PRO,
        False,
    ),
    Facts(
        "gemini-3-flash-preview", "Gemini 3 Flash", "gemini", 1_048_576, 65_536, _ALL, _GEMINI_FLASH, False
    ),
    Facts("gemma-4-31b-it", "Gemma 4 31B", "gemma", 262_144, 32_768, _FILLS, _GEMMA, False, 5376),
    Facts("gemma-4-26b-a4b-it", "Gemma 4 26B A4B", "gemma", 262_144, 32_768, _FILLS, _GEMMA, False, 2816),
    # For indexes: https://ai.google.dev/gemini-api/docs/embeddings
    embedder("gemini-embedding-2", "Gemini Embedding 2", 8192, 3072, narrowest=128),
    embedder("gemini-embedding-001", "Gemini Embedding 001", 2048, 3072, narrowest=128),
)

_DEMO: Final = (
    Facts("demo", "Demo", "demo", 32_768, 4_096, _ALL, Rules()),
    # Counts words and understands none: to try an index out, and so only for who asks for it.
    embedder("demo-embed", "Demo (embeddings)", 32_768, 256, offered=False),
)

CATALOG: Final[Mapping[str, tuple[Facts, ...]]] = MappingProxyType(
    {"anthropic": _ANTHROPIC, "openai": _OPENAI, "google": _GOOGLE, "demo": _DEMO}
)
"""Kind of provider to what it has, the best choice first."""

FAMILIES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType(
    {
        "anthropic": (
            ("claude-3", "claude-haiku-4-5"),
            ("claude-opus-4-1", "claude-opus-4-5"),
            ("claude-opus", "claude-opus-5-5"),
            ("claude-sonnet", "claude-sonnet-5-5"),
            ("claude-haiku", "claude-haiku-5-5"),
            ("", "claude-opus-5-5"),
        ),
        "openai": (
            ("text-embedding", "text-embedding-3-large"),
            ("o1", "o1-pro"),
            ("o3", "o3"),
            ("o4", "o3"),
            ("gpt-3.5", "gpt-4o-mini"),
            ("gpt-4o", "gpt-4o"),
            ("gpt-4.1", "gpt-4.1"),
            ("gpt-4", "gpt-4o"),
            ("chatgpt-4o", "gpt-4o"),
            ("gpt-5.6", "gpt-5.6-sol"),
            ("gpt-5.5", "gpt-5.5"),
            ("gpt-5.4", "gpt-5.4"),
            ("gpt-5.2-pro", "gpt-5.2-pro"),
            ("gpt-5.2", "gpt-5.2"),
            ("gpt-5.3", "gpt-5.2"),
            ("gpt-5.1", "gpt-5.1"),
            ("gpt-5.", "gpt-5.6-sol"),
            ("gpt-5", "gpt-5"),
            ("", "gpt-6.1-sol"),
        ),
        "google": (
            ("gemini-embedding", "gemini-embedding-2"),
            ("text-embedding", "gemini-embedding-001"),
            ("embedding", "gemini-embedding-001"),
            ("gemini-2.5-pro", "gemini-2.5-pro"),
            ("gemini-2", "gemini-2.5-flash"),
            ("gemini-1", "gemini-2.5-flash"),
            ("gemma", "gemma-4-31b-it"),
            ("", "gemini-4-argon"),
        ),
    }
)
"""For ids that have no row: the first prefix that fits, and the row whose rules they follow. Newer ones than
any row follow the newest, as providers take options away far more often than they give them back."""

FILLERS: Final = (
    *("codestral", "qwen2.5-coder", "codellama", "codegemma", "starcoder", "stable-code", "granite-code"),
    *("deepseek-coder", "deepseek-chat"),
)
"""What the names of models begin with that were made to fill gaps, whoever serves them."""

SHORT_IDS: Final = ("mistral", "ministral", "magistral", "mixtral", "codestral", "devstral", "pixtral")
"""What the names of models begin with that take the ids of calls only with 9 letters and digits, whoever serves them."""

UNKNOWN: Final = Facts(
    id="",
    display_name="",
    family="",
    context_length=32_768,
    max_output_tokens=4_096,
    capabilities=_TALKS,
    rules=Rules(),
    offered=False,
    known=False,
)
"""Of a model behind a compatible vendor or a real Ollama nothing is known but the wire."""


def _named(part: str, width: int, context_length: int) -> tuple[str, Facts]:
    return part, embedder("", "", context_length, width, offered=False, known=False)


EMBEDDERS: Final[tuple[tuple[str, Facts], ...]] = (
    _named("nomic-embed", 768, 2048),
    _named("mxbai-embed", 1024, 512),
    _named("all-minilm", 384, 512),
    _named("embeddinggemma", 768, 2048),
    _named("qwen3-embedding", 1024, 32_768),
    _named("granite-embedding", 384, 512),
    _named("arctic-embed2", 1024, 8192),
    _named("arctic-embed", 1024, 512),
    _named("paraphrase-multilingual", 768, 512),
    _named("bge-m3", 1024, 8192),
    _named("bge-small", 384, 512),
    _named("bge-base", 768, 512),
    _named("bge-", 1024, 512),
    _named("gte-", 1024, 8192),
    _named("e5-", 1024, 512),
    _named("jina-embeddings", 1024, 8192),
    _named("voyage-", 1024, 32_000),
    _named("codestral-embed", 1536, 8192),
    _named("mistral-embed", 1024, 8192),
    _named("embed-v4", 1536, 128_000),
    _named("embed", 1024, 8192),
)
"""What the names of embedding models have in common, whoever serves them: the first one of these that begins a
word of the name, and what is then known or guessed. A model of another name says so itself: `capabilities: [embedding]`."""
