"""What is read out of a provider's refusal: texts as providers send them, most of them quoted in public issues."""

import json
from typing import Any

import pytest

from ollama_bridge.backends.refusals import repair_for
from ollama_bridge.repairs import Repair

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object"}}}
CHAT: dict[str, Any] = {
    "model": "gpt-x",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "prompt_cache_key": "k",
    "tools": [FUNCTION],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_tokens": 99_999_999,
    "reasoning_effort": "none",
    "response_format": SCHEMA,
    "logprobs": True,
    "top_logprobs": 20,
    "temperature": 0.2,
    "top_p": 0.9,
    "top_k": 400,
    "seed": 1,
    "stop": ["a", "b", "c", "d", "e"],
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.1,
}
RESPONSES: dict[str, Any] = {
    "model": "gpt-x",
    "input": [{"role": "user", "content": "Hi"}],
    "instructions": "Be kind.",
    "stream": True,
    "store": False,
    "stream_options": {"include_obfuscation": False},
    "max_output_tokens": 99_999,
    "reasoning": {"effort": "minimal", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "text": {"format": {"type": "json_schema", "name": "response", "schema": {}}},
    "temperature": 0.2,
}
CLAUDE: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 128_001,
    "stream": True,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    "system": [{"type": "text", "text": "Be kind."}],
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 4,
    "stop_sequences": ["x"],
}
GEMINI: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    "systemInstruction": {"parts": [{"text": "Be kind."}]},
    "tools": [{"functionDeclarations": [{"name": "f"}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    "generationConfig": {
        "temperature": 0.5,
        "topK": 400,
        "maxOutputTokens": 999_999,
        "presencePenalty": 0.1,
        "stopSequences": ["x"],
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
        "responseLogprobs": True,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 0},
    },
}
LEVEL = {
    **GEMINI,
    "generationConfig": {"thinkingConfig": {"includeThoughts": False, "thinkingLevel": "MINIMAL"}},
}
ADAPTIVE = {**CLAUDE, "thinking": {"type": "adaptive", "display": "summarized"}}
DISABLED = {**CLAUDE, "thinking": {"type": "disabled"}}
EMBEDDING = {"model": "e", "input": ["Hi"], "encoding_format": "base64", "dimensions": 256}
DEVELOPER = {"model": "o", "messages": [{"role": "developer", "content": "Be kind."}], "stream": True}

LEVEL_AT, BUDGET_AT, THINKING_AT = (
    f"generationConfig.thinkingConfig{end}" for end in (".thinkingLevel", ".thinkingBudget", "")
)
TO_JSON = Repair("response_format.type", "json_object", refused="json_schema")


def openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": param, "code": code}


def pydantic(
    *loc: object, kind: str = "extra_forbidden", msg: str = "Extra inputs are not permitted"
) -> list[Any]:
    return [{"type": kind, "loc": ["body", *loc], "msg": msg, "input": None}]


REFUSALS: list[tuple[dict[str, Any], Any, Repair | None]] = [
    # OpenAI
    (
        CHAT,
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        ),
        Repair("max_tokens", "max_completion_tokens"),
    ),
    (
        CHAT,  # Copilot
        {
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            "code": "invalid_request_body",
        },
        Repair("max_tokens", "max_completion_tokens"),
    ),
    (
        CHAT,
        openai(
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is "
            "supported.",
            "temperature",
            "unsupported_value",
        ),
        Repair("temperature"),
    ),
    (
        CHAT,
        openai(
            "Unsupported parameter: 'temperature' is not supported with this model.",
            "temperature",
            "unsupported_parameter",
        ),
        Repair("temperature"),
    ),
    (
        CHAT,
        openai("max_tokens is too large: 99999999. This model supports at most 16384 completion tokens, whereas you "
               "provided 99999999.", "max_tokens", "invalid_value"),
        Repair("max_tokens", 16384),
    ),
    (
        CHAT,
        openai("Unsupported parameter: 'stop' is not supported with this model.", "stop", "unsupported_parameter"),
        Repair("stop"),
    ),
    (
        CHAT,
        openai("Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 "
               "instead.", "stop", "array_above_max_length"),
        Repair("stop", 4),
    ),
    (
        CHAT,
        openai("Unsupported parameter: 'parallel_tool_calls' is not supported with this model.", "parallel_tool_calls",
               "unsupported_parameter"),
        Repair("parallel_tool_calls"),
    ),
    (
        CHAT,
        openai("Unrecognized request argument supplied: parallel_tool_calls"),
        Repair("parallel_tool_calls"),
    ),
    (
        CHAT,
        openai("Unknown parameter: 'stream_options.include_obfuscation'.", "stream_options.include_obfuscation",
               "unknown_parameter"),
        Repair("stream_options.include_obfuscation"),
    ),
    (
        CHAT,
        openai("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model. Learn more "
               "about supported models at the Structured Outputs guide", "response_format"),
        TO_JSON,
    ),
    (
        {**CHAT, "response_format": {"type": "json_object"}},
        openai("Invalid parameter: 'response_format' of type 'json_object' is not supported with this model.",
               "response_format"),
        Repair("response_format.type", refused="json_object"),
    ),
    (CHAT, openai("You are not allowed to request logprobs from this model.", "logprobs"), Repair("logprobs")),
    (
        {**CHAT, "reasoning_effort": "minimal"},
        openai("Unsupported value: 'minimal' is not supported with the 'gpt-5.1' model. Supported values are: 'none', "
               "'low', 'medium', and 'high'.", "reasoning_effort", "unsupported_value"),
        Repair("reasoning_effort", ("none", "low", "medium", "high")),
    ),
    (
        RESPONSES,
        openai("Unsupported value: 'minimal' is not supported with the 'gpt-5.1' model. Supported values are: 'none', "
               "'low', 'medium', and 'high'.", "reasoning.effort", "unsupported_value"),
        Repair("reasoning.effort", ("none", "low", "medium", "high")),
    ),
    (
        RESPONSES,
        openai("Your organization must be verified to generate reasoning summaries. Please go to: "
               "https://platform.openai.com/settings/organization/general and click on Verify Organization.",
               "reasoning.summary", "unsupported_value"),
        Repair("reasoning.summary"),
    ),
    (RESPONSES, openai("Encrypted content is not supported with this model.", "include"), Repair("include")),
    (
        RESPONSES,
        openai("Unsupported parameter: 'reasoning.effort' is not supported with this model.", "reasoning.effort",
               "unsupported_parameter"),
        Repair("reasoning.effort"),
    ),
    (RESPONSES, openai("Unknown parameter: 'store'.", "store", "unknown_parameter"), Repair("store")),
    (RESPONSES, openai("store must be one of: true", "store"), None),
    (
        DEVELOPER,
        openai("Unsupported value: 'messages[0].role' does not support 'developer' with this model.",
               "messages[0].role", "unsupported_value"),
        Repair("messages.role", "system", refused="developer"),
    ),
    (
        DEVELOPER,  # DeepSeek
        openai("Failed to deserialize the JSON body into the target type: messages[0].role: unknown variant `developer`, "
               "expected one of `system`, `user`, `assistant`, `tool` at line 1 column 85"),
        Repair("messages.role", "system", refused="developer"),
    ),
    (
        EMBEDDING,
        openai("This model does not support specifying dimensions.", "dimensions"),
        Repair("dimensions"),
    ),
    # Azure, LM Studio, LiteLLM, OpenRouter
    (CHAT, openai("Unrecognized request argument supplied: stream_options"), Repair("stream_options")),
    (
        {**CHAT, "response_format": {"type": "json_object"}},
        "'response_format.type' must be 'json_schema' or 'text'",
        Repair("response_format.type", refused="json_object"),
    ),
    (
        CHAT,
        {"message": 'litellm.BadRequestError: XaiException - {"code":"Client specified an invalid argument","error":'
         '"Argument not supported on this model: stop"}. Received Model Group=xai_grok-4', "code": "400"},
        Repair("stop"),
    ),
    (
        CHAT,
        {
            "message": "Provider returned error",
            "code": 400,
            "metadata": {
                "raw": json.dumps({"error": openai("Unsupported parameter: 'temperature' is not supported with this "
                                                   "model.", "temperature")}),
                "provider_name": "OpenAI",
            },
        },
        Repair("temperature"),
    ),
    # Groq
    (CHAT, openai("`reasoning_effort` is not supported with this model", "reasoning_effort"), Repair("reasoning_effort")),
    (
        {**CHAT, "reasoning_effort": "medium"},
        {"message": "`reasoning_effort` must be one of `none` or `default`", "type": "invalid_request_error"},
        Repair("reasoning_effort", ("none",)),
    ),
    (
        CHAT,
        {"message": "property 'seed' is unsupported, did you mean 'stop'?", "type": "invalid_request_error"},
        Repair("seed"),
    ),
    (
        CHAT,
        {"message": "json mode cannot be combined with tool/function calling", "type": "invalid_request_error"},
        Repair("response_format", beside="tools"),
    ),
    (
        CHAT,
        {"message": "'response_format' json_object cannot be combined with tool/function calling"},
        Repair("response_format", beside="tools"),
    ),
    # xAI
    (
        CHAT,
        {"code": "invalid-argument", "error": "Model grok-4 does not support parameter presencePenalty."},
        Repair("presence_penalty"),
    ),
    (
        CHAT,
        {"code": "Client specified an invalid argument", "error": "Argument not supported on this model: presencePenalty"},
        Repair("presence_penalty"),
    ),
    (
        CHAT,
        {"error": "Model grok-4.20-0309-non-reasoning does not support parameter reasoningEffort."},
        Repair("reasoning_effort"),
    ),
    # Mistral, vLLM, and who else has pydantic behind it
    (
        CHAT,
        {"object": "error", "message": {"detail": pydantic("stream_options")}, "type": "invalid_request_error"},
        Repair("stream_options"),
    ),
    (
        {**CHAT, "max_completion_tokens": 5},
        {"object": "Error", "detail": pydantic("max_completion_tokens"), "code": 3001},
        Repair("max_completion_tokens", "max_tokens"),
    ),
    (CHAT, {"detail": pydantic("tools")}, None),
    (CHAT, {"object": "error", "message": {"detail": pydantic("messages", 0, "user", "name")}}, None),
    (
        CHAT,
        {"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted'}]"},
        Repair("top_k"),
    ),
    (
        CHAT,
        {"code": "3051", "message": "Logprobs are not enabled for this model", "object": "error", "param": None},
        Repair("logprobs"),
    ),
    (
        EMBEDDING,
        {"object": "error", "message": "dimensions is currently not supported", "param": None, "code": 400},
        Repair("dimensions"),
    ),
    (
        EMBEDDING,
        {"message": 'Model "e" does not support matryoshka representation, changing output dimensions will lead to poor '
         "results."},
        Repair("dimensions"),
    ),
    # DeepSeek, Moonshot, Alibaba, GLM, ByteDance, Cerebras, Fireworks, Cohere
    (CHAT, openai("This response_format type is unavailable now", None, "invalid_request_error"), TO_JSON),
    (
        CHAT,
        openai("Failed to deserialize the JSON body into the target type: response_format: response_format.type "
               "`json_schema` is unavailable now at line 1 column 1193"),
        TO_JSON,
    ),
    (CHAT, openai("Thinking mode does not support this tool_choice"), Repair("tool_choice")),
    (
        CHAT,
        openai("<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to "
               "required or object in thinking mode", None, "invalid_parameter_error"),
        Repair("tool_choice"),
    ),
    (
        CHAT,
        openai("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        Repair("max_tokens", 8192),
    ),
    (
        {**CHAT, "max_completion_tokens": 32_000},
        {"code": "InvalidParameter", "param": "max_completion_tokens", "type": "BadRequest", "message": "The parameter "
         "`max_completion_tokens` specified in the request are not valid: integer above maximum value, expected a value "
         "<= 12288, but got 32000 instead. Request id: 0217752964393142fa50af54"},
        Repair("max_completion_tokens", 12288),
    ),
    (
        CHAT,
        {"message": "invalid temperature: only 1 is allowed for this model", "type": "invalid_request_error"},
        Repair("temperature"),
    ),
    (CHAT, {"message": "invalid top_p: only 0.95 is allowed for this model"}, Repair("top_p")),
    (
        CHAT,
        {"message": "body.frequency_penalty: property 'body.frequency_penalty' is unsupported", "param":
         "validation_error", "code": "wrong_api_format"},
        Repair("frequency_penalty"),
    ),
    (CHAT, {"message": "Extra inputs are not permitted, field: 'parallel_tool_calls'"}, Repair("parallel_tool_calls")),
    (
        CHAT,
        {"message": "invalid request: unknown field: parameter 'prompt_cache_key' is not a valid field"},
        Repair("prompt_cache_key"),
    ),
    (
        CHAT,
        {"message": "Unsupported value: 'reasoning_effort' does not support 'none' with this model. Supported values are: "
         "'minimal', 'low', 'medium', and 'high'."},
        Repair("reasoning_effort", ("minimal", "low", "medium", "high")),
    ),
    (
        CHAT,
        openai("Unsupported value: 'reasoning_effort' does not support 'none' with this model."),
        Repair("reasoning_effort", refused="none"),
    ),
    (
        CHAT,
        openai('"llama3.1:8b" does not support thinking', None, None),
        Repair("reasoning_effort"),
    ),
    (
        CHAT,
        {"message": "Input validation error: `top_k` must be <= 100. Given: 400"},
        Repair("top_k", 100),
    ),
    # Anthropic
    (CLAUDE, {"message": "temperature: Extra inputs are not permitted"}, Repair("temperature")),
    (CLAUDE, {"message": "`temperature` is deprecated for this model."}, Repair("temperature")),
    (
        CLAUDE,
        {"message": "`temperature` and `top_p` cannot both be specified for this model. Please use only one."},
        Repair("top_p", beside="temperature"),
    ),
    (
        CLAUDE,
        {"message": "`temperature` may only be set to 1 when thinking is enabled. Please consult our documentation at "
         "https://docs.claude.com/en/docs/build-with-claude/extended-thinking"},
        Repair("temperature", beside="thinking"),
    ),
    (
        CLAUDE,
        {"message": "max_tokens: 128001 > 64000, which is the maximum allowed number of output tokens for "
         "claude-opus-4-5-20251101"},
        Repair("max_tokens", 64000),
    ),
    (
        CLAUDE,
        {"message": '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
         '"output_config.effort" to control thinking behavior.'},
        Repair("thinking.type", ("adaptive",), refused="enabled"),
    ),
    (
        DISABLED,
        {"message": '"thinking.type.disabled" is not supported for this model.'},
        Repair("thinking.type", refused="disabled"),
    ),
    (
        ADAPTIVE,
        {"message": "thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags: "
         "'disabled', 'enabled'"},
        Repair("thinking.type", ("enabled", "disabled"), refused="adaptive"),
    ),
    (
        ADAPTIVE,  # of somebody who speaks Messages, too
        {"detail": pydantic("thinking", "type", kind="literal_error", msg="Input should be 'enabled' or 'disabled'")},
        Repair("thinking.type", ("enabled", "disabled"), refused="adaptive"),
    ),
    (
        ADAPTIVE,
        {"message": "Only 'enabled' and 'disabled' are supported for thinking; 'adaptive' is not supported."},
        Repair("thinking.type", ("enabled", "disabled"), refused="adaptive"),
    ),
    (CLAUDE, {"message": "This model does not support the effort parameter."}, Repair("output_config.effort")),
    (CLAUDE, {"message": "output_config.format: Extra inputs are not permitted"}, Repair("output_config.format")),
    (CLAUDE, {"message": "Thinking may not be enabled when tool_choice forces tool use."}, Repair("tool_choice")),
    (CLAUDE, {"message": "tools.0.custom.input_schema: JSON schema is invalid."}, None),
    (CLAUDE, {"message": "messages.1.content.0.text.cache_control: Extra inputs are not permitted"}, None),
    (CLAUDE, {"message": "messages.1.content.0: Invalid `signature` in `thinking` block"}, None),
    (
        CLAUDE,
        {"message": "This model does not support assistant message prefill. The conversation must end with a user "
         "message."},
        None,
    ),
    # Google
    (
        GEMINI,
        {"message": 'Invalid JSON payload received. Unknown name "responseJsonSchema" at \'generation_config\': Cannot '
         "find field.", "status": "INVALID_ARGUMENT"},
        Repair("generationConfig.responseJsonSchema"),
    ),
    (
        GEMINI,
        {"message": 'Invalid JSON payload received. Unknown name "parametersJsonSchema" at '
         "'tools[0].function_declarations[0]': Cannot find field."},
        None,
    ),
    (
        GEMINI,
        {"message": "Budget 0 is invalid. This model only works in thinking mode.", "status": "INVALID_ARGUMENT"},
        Repair(BUDGET_AT, refused="none"),
    ),
    (
        GEMINI,
        {"message": "Unable to submit request because The model does not support setting thinking_budget to 0"},
        Repair(BUDGET_AT, refused="none"),
    ),
    (GEMINI, {"message": "Thinking budget is not supported for this model."}, Repair(BUDGET_AT)),
    (GEMINI, {"message": "Thinking is not enabled for this model"}, Repair(THINKING_AT)),
    (
        LEVEL,
        {"message": "Thinking level MINIMAL is not supported for this model. Please retry with other thinking level."},
        Repair(LEVEL_AT, refused="minimal"),
    ),
    (
        LEVEL,
        {"message": "Invalid value at 'generation_config.thinking_config.thinking_level' (type.googleapis.com/"
         'google.ai.generativelanguage.v1beta.ThinkingConfig.ThinkingLevel), "MINIMAL"'},
        Repair(LEVEL_AT, refused="minimal"),
    ),
    (LEVEL, {"message": "Thinking level is not supported for this model."}, Repair(LEVEL_AT)),
    (
        GEMINI,
        {"message": "Penalty is not enabled for models/gemini-2.5-flash-preview-05-20"},
        Repair("generationConfig.presencePenalty"),
    ),
    (
        GEMINI,
        {"message": "Logprobs is not enabled for models/gemini-2.5-flash-lite"},
        Repair("generationConfig.responseLogprobs"),
    ),
    (GEMINI, {"message": "Json mode is not enabled for models/gemini-pro"}, Repair("generationConfig.responseMimeType")),
    (CHAT, {"message": 'Invalid JSON payload received. Unknown name "frequency_penalty": Cannot find field.'},
     Repair("frequency_penalty")),
    (GEMINI, {"message": "Request contains an invalid argument.", "status": "INVALID_ARGUMENT"}, None),
    # What stays an error: the request itself, a value of the client's, a parameter that was not sent
    (CHAT, openai("Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1 instead.",
                  "temperature", "decimal_below_min_value"), None),
    (CHAT, openai("Invalid schema for response_format 'response': In context=(), 'additionalProperties' is required to be "
                  "supplied and to be false.", "response_format"), None),
    (CHAT, openai("'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                  "messages"), None),
    (CHAT, openai("Unsupported parameter: 'top_a' is not supported with this model.", "top_a"), None),
    (CHAT, openai("registry.ollama.ai/library/gemma3:4b does not support tools"), None),
    (CHAT, openai('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'), None),
    (CHAT, openai("Unsupported value: 'stream' does not support true with this model.", "stream", "unsupported_value"),
     None),
    (CHAT, openai("The requested model 'gpt-x' is not supported", "model"), None),
    (CHAT, openai("Invalid value for 'tool_choice': Tool 'g' not found in 'tools' parameter.", "tool_choice"), None),
    (CHAT, openai("max_tokens must be at least 1, got 0", "max_tokens"), None),
    (CHAT, "<html>nginx</html>", None),
    (CHAT, None, None),
    (CHAT, {"message": ["odd", 1], "param": 7, "metadata": {"raw": "{"}}, None),
]  # fmt: skip


def _message(error: Any) -> str:
    if not isinstance(error, dict):
        return error or ""
    told = error.get("message") or error.get("detail") or error.get("error") or ""
    return told if isinstance(told, str) else json.dumps(told)


@pytest.mark.parametrize(("sent", "error", "repair"), REFUSALS, ids=[str(n) for n in range(len(REFUSALS))])
def test_a_refusal_names_its_remedy(sent: dict[str, Any], error: Any, repair: Repair | None) -> None:
    """What a provider says of a parameter that was sent is understood; all else stays an error."""
    assert repair_for(error, _message(error), sent) == repair
