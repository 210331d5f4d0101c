"""What vendors offer without being told, the best choice first: rows of the catalogue, data only.

Sources: the vendors' own pages, named with each; where they do not state a number, github.com/anomalyco/models.dev and
the price list (genai-prices), as of `catalog_data.CATALOGUE_DATE`; of numbers that differ the smaller one. Discovery
asks the vendors themselves, and what they say of their models goes first.
"""

from dataclasses import replace
from typing import Final

from ollama_bridge.chat import Capability, Effort, Rules
from ollama_bridge.facts import Facts, embedder

_M: Final = 1_048_576

_TALKS: Final[tuple[Capability, ...]] = ("completion", "tools")
_FILLS: Final[tuple[Capability, ...]] = ("completion", "tools", "insert")
_SEES: Final[tuple[Capability, ...]] = ("completion", "tools", "vision")
_THINKS: Final[tuple[Capability, ...]] = ("completion", "tools", "thinking")
_ALL: Final[tuple[Capability, ...]] = ("completion", "tools", "vision", "thinking")
_QUICK: Final[tuple[Capability, ...]] = ("completion", "tools", "insert", "vision", "thinking")
_SEARCHES: Final[tuple[Capability, ...]] = ("completion", "vision")
_RESEARCHES: Final[tuple[Capability, ...]] = ("completion", "thinking")

_STANDARD: Final = Rules().accepts
_NO_LOGPROBS: Final = _STANDARD - {"logprobs"}
_WIDE: Final = _STANDARD | {"top_k", "min_p", "repeat_penalty"}

_SWITCH: Final = frozenset({"switch"})
_EFFORT: Final = frozenset({"effort"})
_BOTH: Final = frozenset({"switch", "effort"})
_NONE: Final[frozenset[str]] = frozenset()
_GPT_OSS_EFFORTS: Final[tuple[Effort, ...]] = ("low", "medium", "high")
_OFF_TOO: Final[tuple[Effort, ...]] = ("none", "low", "medium", "high")


def _thinks(rules: Rules, how: frozenset[str], *efforts: Effort) -> Rules:
    return replace(rules, thinking=how, efforts=efforts)


# https://console.groq.com/docs/models, /docs/reasoning, /docs/structured-outputs, /docs/openai (what is a 400)
GROQ_RULES: Final = Rules(accepts=_NO_LOGPROBS, thinking=_NONE, efforts=(), schema=False)
_GROQ_OSS: Final = replace(GROQ_RULES, thinking=_EFFORT, efforts=_GPT_OSS_EFFORTS, schema=True)
GROQ: Final = (
    Facts("openai/gpt-oss-120b", "GPT-OSS 120B (Groq)", "gptoss", 131_072, 65_536, _THINKS, _GROQ_OSS),
    Facts("openai/gpt-oss-20b", "GPT-OSS 20B (Groq)", "gptoss", 131_072, 65_536, _THINKS, _GROQ_OSS),
    Facts(
        *("qwen/qwen3.8-27b", "Qwen3.8 27B (Groq)", "qwen", 131_042, 16_384, _QUICK),
        _thinks(GROQ_RULES, frozenset({"switch", "parsed"})),
    ),
    Facts("llama-3.3-70b-versatile", "Llama 3.3 70B (Groq)", "llama", 131_072, 32_768, _FILLS, GROQ_RULES),
)

# https://openrouter.ai/docs/api/reference/parameters: what a model does not take is dropped there
OPENROUTER_RULES: Final = Rules(
    accepts=_WIDE, thinking=_BOTH, efforts=("minimal", "low", "medium", "high", "xhigh")
)
_ROUTED: Final = _thinks(OPENROUTER_RULES, _EFFORT, "low", "medium", "high", "xhigh")
_ROUTED_OFF: Final = _thinks(OPENROUTER_RULES, _BOTH, "low", "medium", "high")
OPENROUTER: Final = (
    Facts(
        *("anthropic/claude-opus-5.5", "Claude Opus 5.5 (OpenRouter)", "claude", 1_000_000, 128_000, _ALL),
        _ROUTED,
    ),
    Facts(
        *("anthropic/claude-sonnet-5.5", "Claude Sonnet 5.5 (OpenRouter)", "claude", 1_000_000, 128_000),
        *(_ALL, _ROUTED),
    ),
    Facts("openai/gpt-6.1-sol", "GPT-6.1 Sol (OpenRouter)", "gpt", 1_050_000, 128_000, _ALL, _ROUTED),
    Facts("google/gemini-3.8-flash", "Gemini 3.8 Flash (OpenRouter)", "gemini", _M, 65_536, _ALL, _ROUTED),
    Facts("x-ai/grok-4.7", "Grok 4.7 (OpenRouter)", "grok", 500_000, 128_000, _ALL, _ROUTED),
    Facts(
        *("deepseek/deepseek-v4.1-flash", "DeepSeek V4.1 Flash (OpenRouter)", "deepseek", 1_000_000, 131_072),
        *(_QUICK, _ROUTED_OFF),
    ),
    Facts("z-ai/glm-5.3", "GLM-5.3 (OpenRouter)", "glm", _M, 131_072, _THINKS, _ROUTED),
    Facts("moonshotai/kimi-k3.1-pro", "Kimi K3.1 Pro (OpenRouter)", "kimi", _M, 131_072, _ALL, _ROUTED),
)

# https://docs.x.ai/developers/models, /developers/model-capabilities/text/reasoning
XAI_RULES: Final = Rules(
    api="responses",
    accepts=frozenset({"temperature", "top_p"}),
    max_stops=0,
    thinking=_NONE,
    efforts=(),
)
XAI: Final = (
    Facts(
        *("grok-4.7", "Grok 4.7", "grok", 500_000, 128_000, _ALL),
        _thinks(XAI_RULES, _EFFORT, "low", "medium", "high", "xhigh"),
    ),
    Facts(
        *("grok-4.6", "Grok 4.6", "grok", 500_000, 128_000, _ALL),
        _thinks(XAI_RULES, _EFFORT, "low", "medium", "high"),
    ),
    Facts(
        *("grok-4.3", "Grok 4.3", "grok", 1_000_000, 30_000, _QUICK),
        _thinks(XAI_RULES, _EFFORT, *_OFF_TOO),
    ),
    Facts("grok-build-0.1", "Grok Build 0.1", "grok", 256_000, 128_000, _ALL, XAI_RULES),
)

# https://docs.mistral.ai/models, /inference/conversations/reasoning
MISTRAL_RULES: Final = Rules(accepts=_NO_LOGPROBS, thinking=_NONE, efforts=(), prefill=False, short_ids=True)
_MISTRAL_THINKS: Final = _thinks(MISTRAL_RULES, _EFFORT, "none", "high")
MISTRAL: Final = (
    Facts(
        *("mistral-large-4-0", "Mistral Large 4", "mistral", 524_288, 65_536, _ALL),
        _thinks(MISTRAL_RULES, _EFFORT, *_OFF_TOO),
    ),
    Facts("mistral-medium-3-5", "Mistral Medium 3.5", "mistral", 256_000, 65_536, _ALL, _MISTRAL_THINKS),
    Facts("mistral-small-latest", "Mistral Small 4", "mistral", 256_000, 65_536, _QUICK, _MISTRAL_THINKS),
    Facts("codestral-latest", "Codestral", "codestral", 256_000, 16_384, _FILLS, MISTRAL_RULES),
    Facts("ministral-8b-latest", "Ministral 3 8B", "mistral", 256_000, 65_536, _SEES, MISTRAL_RULES),
    embedder("mistral-embed", "Mistral Embed", 8192, 1024),
    embedder("codestral-embed", "Codestral Embed", 8192, 1536),
)

# https://api-docs.deepseek.com/quick_start/pricing, /guides/thinking_mode, /api/create-chat-completion
DEEPSEEK_RULES: Final = Rules(
    accepts=_STANDARD - {"seed"},
    max_stops=16,
    thinking=_BOTH,
    efforts=("low", "high", "max"),
    schema=False,
    prefill=False,
)
DEEPSEEK: Final = (
    Facts("deepseek-v4-pro", "DeepSeek V4 Pro", "deepseek", 1_000_000, 384_000, _THINKS, DEEPSEEK_RULES),
    Facts("deepseek-flash", "DeepSeek V4.1 Flash", "deepseek", 1_000_000, 384_000, _QUICK, DEEPSEEK_RULES),
)

# https://docs.z.ai/api-reference/llm/chat-completion, /guides/capabilities/thinking-mode
GLM_RULES: Final = Rules(
    accepts=frozenset({"temperature", "top_p", "stop"}),
    max_stops=1,
    thinking=_SWITCH,
    efforts=(),
    schema=False,
    prefill=False,
    forced_tools=False,
)
_GLM_ALWAYS: Final = _thinks(GLM_RULES, _EFFORT, "low", "high", "max")
GLM: Final = (
    Facts("glm-5.3", "GLM-5.3", "glm", 1_000_000, 131_072, _THINKS, _GLM_ALWAYS),
    Facts("glm-5.3-flash", "GLM-5.3 Flash", "glm", 1_000_000, 131_072, _ALL, _GLM_ALWAYS),
    Facts(
        *("glm-5.2", "GLM-5.2", "glm", 1_000_000, 131_072, _THINKS),
        _thinks(GLM_RULES, _BOTH, "high", "max"),
    ),
    Facts("glm-5v-turbo", "GLM-5V Turbo", "glm", 200_000, 131_072, _ALL, GLM_RULES),
    Facts("glm-4.7", "GLM-4.7", "glm", 200_000, 131_072, _THINKS, GLM_RULES),
    Facts(
        *("glm-4.7-flash", "GLM-4.7 Flash", "glm", 200_000, 131_072),
        *(("completion", "tools", "insert", "thinking"), GLM_RULES),
    ),
    embedder("embedding-3", "GLM Embedding 3", 8192, 2048, narrowest=256),
)

# https://docs.cohere.com/docs/compatibility-api, /docs/models
COHERE_RULES: Final = Rules(accepts=_NO_LOGPROBS, max_stops=5, thinking=_NONE, efforts=(), prefill=False)
_COHERE_THINKS: Final = _thinks(COHERE_RULES, _EFFORT, "none", "high")
COHERE: Final = (
    Facts("command-a-plus-05-2026", "Command A+", "command", 128_000, 64_000, _ALL, _COHERE_THINKS),
    Facts(
        *("command-a-reasoning-08-2025", "Command A Reasoning", "command", 256_000, 32_000, _THINKS),
        _COHERE_THINKS,
    ),
    Facts("command-a-03-2025", "Command A", "command", 256_000, 8_000, _TALKS, COHERE_RULES),
    Facts("command-r7b-12-2024", "Command R7B", "command", 128_000, 4_000, _FILLS, COHERE_RULES),
    embedder("embed-v4.0", "Cohere Embed 4", 128_000, 1536),
)

# https://huggingface.co/docs/inference-providers/tasks/chat-completion: each model as whoever serves it has it
HUGGINGFACE_RULES: Final = Rules(thinking=_EFFORT, efforts=_GPT_OSS_EFFORTS)
HUGGINGFACE: Final = (
    Facts("zai-org/GLM-5.3", "GLM-5.3 (Hugging Face)", "glm", _M, 131_072, _THINKS, HUGGINGFACE_RULES),
    Facts("moonshotai/Kimi-K3", "Kimi K3 (Hugging Face)", "kimi", _M, 131_072, _ALL, HUGGINGFACE_RULES),
    Facts(
        *("deepseek-ai/DeepSeek-V4.1-Flash", "DeepSeek V4.1 Flash (Hugging Face)", "deepseek", 1_000_000),
        *(131_072, _ALL, HUGGINGFACE_RULES),
    ),
    Facts(
        *("openai/gpt-oss-120b", "GPT-OSS 120B (Hugging Face)", "gptoss", 131_072, 32_768, _THINKS),
        HUGGINGFACE_RULES,
    ),
)

# https://developers.cloudflare.com/workers-ai/models/, each model's page
CLOUDFLARE_RULES: Final = Rules(accepts=_WIDE - {"logprobs", "min_p"}, thinking=_SWITCH, efforts=())
_CF_PLAIN: Final = _thinks(CLOUDFLARE_RULES, _NONE)
CLOUDFLARE: Final = (
    Facts(
        *("@cf/zai-org/glm-5.3", "GLM-5.3 (Cloudflare)", "glm", _M, 131_072, _THINKS),
        _thinks(CLOUDFLARE_RULES, _EFFORT, *_GPT_OSS_EFFORTS),
    ),
    Facts(
        *("@cf/openai/gpt-oss-120b", "GPT-OSS 120B (Cloudflare)", "gptoss", 128_000, 32_768, _THINKS),
        _thinks(CLOUDFLARE_RULES, _EFFORT, *_GPT_OSS_EFFORTS),
    ),
    Facts(
        *("@cf/qwen/qwen3.8-27b", "Qwen3.8 27B (Cloudflare)", "qwen", 262_144, 32_768, _ALL),
        CLOUDFLARE_RULES,
    ),
    Facts(
        *("@cf/meta/llama-3.3-70b-instruct-fp8-fast", "Llama 3.3 70B (Cloudflare)", "llama", 24_000, 4_096),
        *(_FILLS, _CF_PLAIN),
    ),
    embedder("@cf/baai/bge-m3", "BGE M3 (Cloudflare)", 8192, 1024),
)

# https://docs.perplexity.ai/api-reference/sonar-post: it searches by itself, and takes no tools
PERPLEXITY_RULES: Final = Rules(
    accepts=frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
    max_stops=0,
    thinking=_NONE,
    efforts=(),
    prefill=False,
)
PERPLEXITY: Final = (
    Facts("sonar-pro", "Sonar Pro", "sonar", 200_000, 8_192, _SEARCHES, PERPLEXITY_RULES),
    Facts("sonar", "Sonar", "sonar", 128_000, 8_192, _SEARCHES, PERPLEXITY_RULES),
    Facts(
        *("sonar-deep-research", "Sonar Deep Research", "sonar", 128_000, 32_768, _RESEARCHES),
        _thinks(PERPLEXITY_RULES, _EFFORT, "minimal", "low", "medium", "high"),
    ),
)

# https://docs.together.ai/docs/serverless-models, /docs/inference/chat/reasoning
TOGETHER_RULES: Final = Rules(accepts=_WIDE, thinking=_BOTH, efforts=_GPT_OSS_EFFORTS)
_TOGETHER_ALWAYS: Final = _thinks(TOGETHER_RULES, _EFFORT, "low", "medium", "high", "max")
TOGETHER: Final = (
    Facts("zai-org/GLM-5.3", "GLM-5.3 (Together)", "glm", 1_000_000, 131_072, _THINKS, _TOGETHER_ALWAYS),
    Facts(
        "moonshotai/Kimi-K3.1-Pro", "Kimi K3.1 Pro (Together)", "kimi", _M, 131_072, _ALL, _TOGETHER_ALWAYS
    ),
    Facts(
        *(
            "deepseek-ai/DeepSeek-V4.1-Flash",
            "DeepSeek V4.1 Flash (Together)",
            "deepseek",
            1_000_000,
            131_072,
        ),
        *(_QUICK, TOGETHER_RULES),
    ),
    Facts(
        "MiniMaxAI/MiniMax-M3", "MiniMax M3 (Together)", "minimax", 524_288, 131_072, _THINKS, TOGETHER_RULES
    ),
    Facts(
        *("openai/gpt-oss-120b", "GPT-OSS 120B (Together)", "gptoss", 131_072, 32_768, _THINKS),
        _thinks(TOGETHER_RULES, _EFFORT, *_GPT_OSS_EFFORTS),
    ),
)

# https://fireworks.ai/models, https://docs.fireworks.ai/guides/reasoning
FIREWORKS_RULES: Final = Rules(accepts=_WIDE, thinking=_EFFORT, efforts=_GPT_OSS_EFFORTS)
_FIREWORKS: Final = "accounts/fireworks/models/"
FIREWORKS: Final = (
    Facts(f"{_FIREWORKS}glm-5p3", "GLM-5.3 (Fireworks)", "glm", 1_000_000, 131_072, _THINKS, FIREWORKS_RULES),
    Facts(f"{_FIREWORKS}kimi-k3", "Kimi K3 (Fireworks)", "kimi", 1_040_000, 131_072, _ALL, FIREWORKS_RULES),
    Facts(
        *(f"{_FIREWORKS}gpt-oss-120b", "GPT-OSS 120B (Fireworks)", "gptoss", 131_072, 32_768, _THINKS),
        FIREWORKS_RULES,
    ),
)

# https://inference-docs.cerebras.ai/models, /capabilities/reasoning
CEREBRAS_RULES: Final = Rules(
    accepts=_STANDARD - {"presence_penalty", "frequency_penalty"},
    thinking=_NONE,
    efforts=(),
    max_tokens_field="max_completion_tokens",
)
_CEREBRAS_PARSED: Final = frozenset({"effort", "parsed"})
CEREBRAS: Final = (
    Facts(
        *("gpt-oss-120b", "GPT-OSS 120B (Cerebras)", "gptoss", 131_072, 32_768, _THINKS),
        _thinks(CEREBRAS_RULES, _CEREBRAS_PARSED, *_GPT_OSS_EFFORTS),
    ),
    Facts(
        *("qwen-3.8-27b", "Qwen3.8 27B (Cerebras)", "qwen", 65_536, 32_768, _QUICK),
        _thinks(CEREBRAS_RULES, _CEREBRAS_PARSED, *_OFF_TOO),
    ),
)

# https://platform.kimi.ai/docs/models, /docs/guide/use-thinking-effort: sampling is fixed
MOONSHOT_RULES: Final = Rules(
    accepts=frozenset({"stop"}),
    max_stops=5,
    thinking=_NONE,
    efforts=(),
    max_tokens_field="max_completion_tokens",
    schema=False,
    prefill=False,
    forced_tools=False,
)
_KIMI_3: Final = replace(MOONSHOT_RULES, thinking=_EFFORT, efforts=("low", "high", "max"), schema=True)
MOONSHOT: Final = (
    Facts("kimi-k3.1-pro", "Kimi K3.1 Pro", "kimi", _M, 262_144, _ALL, _KIMI_3),
    Facts("kimi-k3", "Kimi K3", "kimi", _M, 262_144, _ALL, _KIMI_3),
    Facts("kimi-k2.7-code", "Kimi K2.7 Code", "kimi", 262_144, 131_072, _ALL, MOONSHOT_RULES),
    Facts("kimi-k2.6", "Kimi K2.6", "kimi", 262_144, 131_072, _ALL, _thinks(MOONSHOT_RULES, _SWITCH)),
)

# https://www.alibabacloud.com/help/en/model-studio/models, /deep-thinking, /text-embedding-synchronous-api
DASHSCOPE_RULES: Final = Rules(
    accepts=frozenset(
        {"temperature", "top_p", "seed", "stop", "presence_penalty", "top_k", "repeat_penalty"}
    ),
    thinking=_SWITCH,
    efforts=(),
    schema=False,
    prefill=False,
)
DASHSCOPE: Final = (
    Facts("qwen3.8-max", "Qwen3.8 Max", "qwen", 1_000_000, 131_072, _ALL, DASHSCOPE_RULES),
    Facts("qwen3.8-flash", "Qwen3.8 Flash", "qwen", 1_000_000, 131_072, _QUICK, DASHSCOPE_RULES),
    Facts(
        *("qwen3-coder-plus", "Qwen3 Coder Plus", "qwen", 1_000_000, 65_536, _FILLS),
        _thinks(DASHSCOPE_RULES, _NONE),
    ),
    embedder("text-embedding-v4", "Qwen text embedding v4", 8192, 1024, narrowest=64),
)

# https://docs.api.nvidia.com/nim/reference/llm-apis
NVIDIA_RULES: Final = Rules(accepts=_NO_LOGPROBS, thinking=_SWITCH, efforts=())
NVIDIA: Final = (
    Facts(
        *("nvidia/nemotron-3-ultra-550b-a55b", "Nemotron 3 Ultra (NVIDIA)", "nemotron", 262_000, 32_768),
        *(_THINKS, NVIDIA_RULES),
    ),
    Facts("moonshotai/kimi-k3", "Kimi K3 (NVIDIA)", "kimi", _M, 131_072, _ALL, _thinks(NVIDIA_RULES, _NONE)),
)

# https://docs.sambanova.ai/cloud/docs/get-started/supported-models
SAMBANOVA_RULES: Final = Rules(accepts=_NO_LOGPROBS, thinking=_NONE, efforts=())
SAMBANOVA: Final = (
    Facts("MiniMax-M2.7", "MiniMax M2.7 (SambaNova)", "minimax", 192_000, 32_768, _THINKS, SAMBANOVA_RULES),
    Facts(
        *("gpt-oss-120b", "GPT-OSS 120B (SambaNova)", "gptoss", 128_000, 32_768, _THINKS),
        _thinks(SAMBANOVA_RULES, _EFFORT, *_GPT_OSS_EFFORTS),
    ),
    Facts(
        *("Meta-Llama-3.3-70B-Instruct", "Llama 3.3 70B (SambaNova)", "llama", 128_000, 16_384, _FILLS),
        SAMBANOVA_RULES,
    ),
)

# https://docs.deepinfra.com/chat/reasoning, https://deepinfra.com/models
DEEPINFRA_RULES: Final = Rules(accepts=_WIDE, thinking=_EFFORT, efforts=_OFF_TOO)
DEEPINFRA: Final = (
    Facts(
        *("deepseek-ai/DeepSeek-V4.1-Flash", "DeepSeek V4.1 Flash (DeepInfra)", "deepseek", 1_000_000),
        *(131_072, _QUICK, DEEPINFRA_RULES),
    ),
    Facts("Qwen/Qwen3.8-27B", "Qwen3.8 27B (DeepInfra)", "qwen", 262_144, 32_768, _QUICK, DEEPINFRA_RULES),
)

# https://docs.tokenfactory.nebius.com/api-reference/inference/create-chat-completion
NEBIUS_RULES: Final = Rules(accepts=_WIDE, thinking=_EFFORT, efforts=_GPT_OSS_EFFORTS)
NEBIUS: Final = (
    Facts("moonshotai/Kimi-K3", "Kimi K3 (Nebius)", "kimi", _M, 131_072, _ALL, NEBIUS_RULES),
    Facts("zai-org/GLM-5.2", "GLM-5.2 (Nebius)", "glm", 1_000_000, 131_072, _THINKS, NEBIUS_RULES),
    Facts("openai/gpt-oss-120b", "GPT-OSS 120B (Nebius)", "gptoss", 131_072, 32_768, _THINKS, NEBIUS_RULES),
)

# https://novita.ai/docs/api-reference/model-apis-llm-create-chat-completion
NOVITA_RULES: Final = Rules(accepts=_WIDE, thinking=_SWITCH, efforts=())
NOVITA: Final = (
    Facts(
        *("deepseek/deepseek-v4.1-flash", "DeepSeek V4.1 Flash (Novita)", "deepseek", 1_000_000, 131_072),
        *(_ALL, NOVITA_RULES),
    ),
    Facts("zai-org/glm-5.3", "GLM-5.3 (Novita)", "glm", _M, 131_072, _THINKS, _thinks(NOVITA_RULES, _NONE)),
    Facts("qwen/qwen3.8-max", "Qwen3.8 Max (Novita)", "qwen", 1_000_000, 131_072, _ALL, NOVITA_RULES),
)

# https://docs.venice.ai/guides/features/reasoning-models
VENICE_RULES: Final = Rules(
    accepts=_WIDE - {"logprobs"}, thinking=_EFFORT, efforts=_GPT_OSS_EFFORTS, schema=False
)
VENICE: Final = (
    Facts("kimi-k3", "Kimi K3 (Venice)", "kimi", 1_000_000, 131_072, _ALL, VENICE_RULES),
    Facts("qwen-3-8-max", "Qwen3.8 Max (Venice)", "qwen", 1_000_000, 131_072, _ALL, VENICE_RULES),
)

# https://vercel.com/ai-gateway/models, /docs/ai-gateway/sdks-and-apis/openai-chat-completions/advanced
VERCEL: Final = (
    Facts(
        *("mistral/mistral-large-4", "Mistral Large 4 (Vercel)", "mistral", 524_288, 65_536, _ALL),
        replace(_ROUTED, short_ids=True),
    ),
    Facts("alibaba/qwen3.7-max", "Qwen3.7 Max (Vercel)", "qwen", 1_000_000, 65_536, _THINKS, _ROUTED_OFF),
    Facts("zai/glm-5", "GLM-5 (Vercel)", "glm", 202_752, 131_072, _THINKS, _ROUTED_OFF),
)

# Servers of one's own: their lists say what they have. The words of the chat template reach whoever reads them.
LOCAL_RULES: Final = Rules(accepts=_WIDE, thinking=_SWITCH, efforts=())
