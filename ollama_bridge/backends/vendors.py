"""Those who speak OpenAI's APIs without being OpenAI: data, one row each.

A row is a kind of provider, served by `backends.openai`. To add a vendor, add a row; a test then sends it a request
and looks at URL, headers and body.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from ollama_bridge.backends import dialect as said
from ollama_bridge.backends import vendor_models as models
from ollama_bridge.backends.dialect import Dialect, Echo
from ollama_bridge.backends.vendor import Fim, Vendor
from ollama_bridge.backends.vendors_signed import SIGNED

# https://docs.z.ai/api-reference/llm/chat-completion, https://docs.bigmodel.cn/api-reference: tools are called as the model
# likes, or not shown; without `tool_stream` their arguments come after minutes of silence.
_GLM: Final = Dialect(
    bounds={**said.BOUNDS, "temperature": (0.0, 1.0), "top_p": (0.01, 1.0)},
    stream_options=False,
    tool_choice={},
    parallel_tool_calls=False,
    while_tools={"tool_stream": True},
    think=said.thinking_type,
    echo=Echo(),
    caps_output=True,
    encoding=None,
    embed_inputs=64,
)
# What llama.cpp made of it: https://github.com/ggml-org/llama.cpp/tree/master/tools/server
_REPEAT_PENALTY: Final = {**said.NAMES, "repeat_penalty": "repeat_penalty"}

VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType(
    {
        "openrouter": Vendor(
            "OpenRouter",
            "https://openrouter.ai/api/v1",
            ("OPENROUTER_API_KEY",),
            rules=models.OPENROUTER_RULES,
            dialect=Dialect(think=said.reasoning, echo=said.DETAILS, headers={"X-Title": "ollama-bridge"}),
            models=models.OPENROUTER,
            many=True,
        ),
        "groq": Vendor(
            "Groq",
            "https://api.groq.com/openai/v1",
            ("GROQ_API_KEY",),
            rules=models.GROQ_RULES,
            dialect=Dialect(think=said.parsed, caps_output=True),
            models=models.GROQ,
        ),
        "xai": Vendor(
            "xAI",
            "https://api.x.ai/v1",
            ("XAI_API_KEY", "GROK_API_KEY"),
            rules=models.XAI_RULES,
            models=models.XAI,
        ),
        # It refuses what it does not know, tells the usage unasked, and embeds 16,384 tokens in a call.
        "mistral": Vendor(
            "Mistral",
            "https://api.mistral.ai/v1",
            ("MISTRAL_API_KEY",),
            rules=models.MISTRAL_RULES,
            dialect=Dialect(
                names={**said.NAMES, "seed": "random_seed"},
                bounds={**said.BOUNDS, "temperature": (0.0, 1.5)},
                stream_options=False,
                tool_choice={"none": "none", "required": "any"},
                strict_roles=True,
                embed_bytes=32_000,
            ),
            models=models.MISTRAL,
            hosts=("codestral.mistral.ai",),
            fim=Fim("fim/completions", ("codestral",)),
        ),
        "deepseek": Vendor(
            "DeepSeek",
            "https://api.deepseek.com",
            ("DEEPSEEK_API_KEY",),
            rules=models.DEEPSEEK_RULES,
            dialect=Dialect(think=said.thinking_type, echo=Echo(), caps_output=True),
            models=models.DEEPSEEK,
            fim=Fim("/beta/completions", ("deepseek-chat", "deepseek-coder", "deepseek-v", "deepseek-flash")),
        ),
        # Subscribers of the coding plan set base_url to https://api.z.ai/api/coding/paas/v4.
        "zai": Vendor(
            "Z.ai (GLM)",
            "https://api.z.ai/api/paas/v4",
            ("ZAI_API_KEY",),
            rules=models.GLM_RULES,
            dialect=_GLM,
            models=models.GLM,
            sign_in="glm",
        ),
        "bigmodel": Vendor(
            "Zhipu (GLM in China)",
            "https://open.bigmodel.cn/api/paas/v4",
            ("GLM_API_KEY", "ZHIPUAI_API_KEY", "ZHIPU_API_KEY", "BIGMODEL_API_KEY"),
            rules=models.GLM_RULES,
            dialect=_GLM,
            models=models.GLM,
            sign_in="glm",
        ),
        "cohere": Vendor(
            "Cohere",
            "https://api.cohere.ai/compatibility/v1",
            ("COHERE_API_KEY", "CO_API_KEY"),
            rules=models.COHERE_RULES,
            dialect=Dialect(
                bounds={
                    "temperature": (0.0, 1.0),
                    "top_p": (0.01, 0.99),
                    "presence_penalty": (0.0, 1.0),
                    "frequency_penalty": (0.0, 1.0),
                },
                stream_options=False,
                parallel_tool_calls=False,
            ),
            models=models.COHERE,
            hosts=("api.cohere.com",),
        ),
        "huggingface": Vendor(
            "Hugging Face",
            "https://router.huggingface.co/v1",
            ("HF_TOKEN",),
            rules=models.HUGGINGFACE_RULES,
            dialect=Dialect(),
            models=models.HUGGINGFACE,
            many=True,
        ),
        "cloudflare": Vendor(
            "Cloudflare Workers AI",
            "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1",
            ("CLOUDFLARE_API_TOKEN",),
            {"account": ("CLOUDFLARE_ACCOUNT_ID",)},
            rules=models.CLOUDFLARE_RULES,
            dialect=Dialect(think=said.template, null_content=False),
            models=models.CLOUDFLARE,
            many=True,
        ),
        "perplexity": Vendor(
            "Perplexity",
            "https://api.perplexity.ai",
            ("PERPLEXITY_API_KEY",),
            rules=models.PERPLEXITY_RULES,
            dialect=Dialect(
                bounds={**said.BOUNDS, "temperature": (0.0, 1.99)},
                parallel_tool_calls=False,
                strict_roles=True,
                json_object=False,
                encoding=None,
            ),
            models=models.PERPLEXITY,
        ),
        # The documentation has api.together.ai by now; the price list knows this one, and both answer.
        "together": Vendor(
            "Together",
            "https://api.together.xyz/v1",
            ("TOGETHER_API_KEY",),
            rules=models.TOGETHER_RULES,
            dialect=Dialect(think=said.reasoning_switch),
            models=models.TOGETHER,
            hosts=("api.together.ai",),
            many=True,
        ),
        "fireworks": Vendor(
            "Fireworks",
            "https://api.fireworks.ai/inference/v1",
            ("FIREWORKS_API_KEY",),
            rules=models.FIREWORKS_RULES,
            dialect=Dialect(cache_key=True),
            models=models.FIREWORKS,
            many=True,
        ),
        "cerebras": Vendor(
            "Cerebras",
            "https://api.cerebras.ai/v1",
            ("CEREBRAS_API_KEY",),
            rules=models.CEREBRAS_RULES,
            dialect=Dialect(
                bounds={**said.BOUNDS, "temperature": (0.0, 1.5)},
                parallel_tool_calls=False,
                think=said.parsed,
                caps_output=True,
            ),
            models=models.CEREBRAS,
        ),
        # An empty thought counts as a missing one.
        "moonshot": Vendor(
            "Moonshot (Kimi)",
            "https://api.moonshot.ai/v1",
            ("MOONSHOT_API_KEY", "KIMI_API_KEY"),
            rules=models.MOONSHOT_RULES,
            dialect=Dialect(think=said.thinking_type, echo=Echo(unknown=" "), cache_key=True),
            models=models.MOONSHOT,
            hosts=("api.moonshot.cn",),
        ),
        "dashscope": Vendor(
            "Alibaba Model Studio (Qwen)",
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            ("DASHSCOPE_API_KEY",),
            rules=models.DASHSCOPE_RULES,
            dialect=Dialect(
                bounds={**said.BOUNDS, "temperature": (0.0, 1.99), "top_p": (0.01, 1.0)},
                think=said.enable_thinking,
                embed_inputs=10,
            ),
            models=models.DASHSCOPE,
            hosts=("dashscope.aliyuncs.com", "dashscope-us.aliyuncs.com"),
            many=True,
        ),
        "nvidia": Vendor(
            "NVIDIA",
            "https://integrate.api.nvidia.com/v1",
            ("NVIDIA_API_KEY",),
            rules=models.NVIDIA_RULES,
            dialect=Dialect(think=said.template),
            models=models.NVIDIA,
            many=True,
        ),
        "sambanova": Vendor(
            "SambaNova",
            "https://api.sambanova.ai/v1",
            ("SAMBANOVA_API_KEY",),
            rules=models.SAMBANOVA_RULES,
            dialect=Dialect(),
            models=models.SAMBANOVA,
        ),
        "deepinfra": Vendor(
            "DeepInfra",
            "https://api.deepinfra.com/v1/openai",
            ("DEEPINFRA_API_KEY",),
            rules=models.DEEPINFRA_RULES,
            dialect=Dialect(),
            models=models.DEEPINFRA,
            many=True,
        ),
        "nebius": Vendor(
            "Nebius Token Factory",
            "https://api.tokenfactory.nebius.com/v1",
            ("NEBIUS_API_KEY",),
            rules=models.NEBIUS_RULES,
            dialect=Dialect(),
            models=models.NEBIUS,
        ),
        "novita": Vendor(
            "Novita",
            "https://api.novita.ai/openai",
            ("NOVITA_API_KEY",),
            rules=models.NOVITA_RULES,
            dialect=Dialect(think=said.enable_thinking),
            models=models.NOVITA,
            many=True,
        ),
        "venice": Vendor(
            "Venice",
            "https://api.venice.ai/api/v1",
            ("VENICE_API_KEY",),
            rules=models.VENICE_RULES,
            dialect=Dialect(always={"venice_parameters": {"include_venice_system_prompt": False}}),
            models=models.VENICE,
            many=True,
        ),
        "vercel": Vendor(
            "Vercel AI Gateway",
            "https://ai-gateway.vercel.sh/v1",
            ("AI_GATEWAY_API_KEY",),
            rules=models.OPENROUTER_RULES,
            dialect=Dialect(think=said.reasoning, echo=said.DETAILS),
            models=models.VERCEL,
            many=True,
        ),
        # https://lmstudio.ai/docs/developer/openai-compat/chat-completions: any JSON it writes by a schema alone
        "lmstudio": Vendor(
            "LM Studio",
            "http://127.0.0.1:1234/v1",
            keyless=True,
            rules=models.LOCAL_RULES,
            dialect=Dialect(names=_REPEAT_PENALTY, think=said.template, asks_all=True, json_object=False),
        ),
        "vllm": Vendor(
            "vLLM",
            "http://127.0.0.1:8000/v1",
            keyless=True,
            rules=models.LOCAL_RULES,
            dialect=Dialect(think=said.template, asks_all=True),
        ),
        "llamacpp": Vendor(
            "llama.cpp server",
            "http://127.0.0.1:8080/v1",
            keyless=True,
            rules=models.LOCAL_RULES,
            dialect=Dialect(names=_REPEAT_PENALTY, think=said.template, asks_all=True),
        ),
        **SIGNED,
    }
)
"""By the kind of provider that each is."""

OPENAI_URL: Final = "https://api.openai.com/v1"
_OPENAI_HOST: Final = "api.openai.com"

_BY_HOST: Final[Mapping[str, str]] = {
    host: kind
    for kind, vendor in VENDORS.items()
    for host in (urlsplit(vendor.base_url).hostname or "", *vendor.hosts)
    if host and not vendor.keyless and "{" not in host
}


def vendor_kind(kind: str, base_url: str | None) -> str | None:
    """The key in `VENDORS` of whom a provider is; None: nobody's.

    Kind `openai` with an address of its own is the vendor whose host that is.
    """
    if kind in VENDORS:
        return kind
    if kind != "openai" or base_url is None:
        return None
    return _BY_HOST.get(urlsplit(base_url).hostname or "")


def vendor_of(kind: str, base_url: str | None) -> Vendor | None:
    """The vendor that a provider is, as for `vendor_kind`."""
    found = vendor_kind(kind, base_url)
    return VENDORS[found] if found else None


def is_openai(base_url: str | None) -> bool:
    """Whether OpenAI itself is there, in whatever region."""
    host = _OPENAI_HOST if base_url is None else urlsplit(base_url).hostname or ""
    return host == _OPENAI_HOST or host.endswith(f".{_OPENAI_HOST}")
