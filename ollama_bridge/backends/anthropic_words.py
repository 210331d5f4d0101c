"""The words of Anthropic's Messages API, and what each comes to: a test holds these tables to the SDK's types."""

from collections.abc import Mapping
from typing import Final

from ollama_bridge.backends.verdicts import ERROR_TYPES, NO_CREDIT, Meaning
from ollama_bridge.events import FinishReason

PAUSE: Final = "pause_turn"
"""The provider's own tools take long: it wants to be asked to go on."""

STOP_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "compaction": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    PAUSE: "length",  # where it is not gone on with
    "refusal": "refusal",
}
"""`stop_reason` to ours. An unknown one is a stop, and the log says so."""

READ_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})

PASSED_BLOCKS: Final[Mapping[str, bool]] = {
    # What the provider's own tools are doing, with the result in the text
    **dict.fromkeys(
        "server_tool_use web_search_tool_result web_fetch_tool_result code_execution_tool_result "
        "bash_code_execution_tool_result text_editor_code_execution_tool_result tool_search_tool_result "
        "advisor_tool_result mcp_tool_use mcp_tool_result mcp_tool_listing compaction fallback".split(),
        False,
    ),
    "container_upload": True,  # a file that no client of ours can fetch
}
"""Blocks that are not read, and whether the log is to tell of them; it does of those that are not known. A text in a
block of any kind is text."""

PASSED_DELTAS: Final[Mapping[str, bool]] = {"compaction_delta": False}
"""As `PASSED_BLOCKS`, of what a block goes on with."""

ANTHROPIC_ERROR_TYPES: Final[Mapping[str, Meaning]] = {
    **ERROR_TYPES,
    # `error.details.error_code`, where it says more than the error's type and status
    "contract_spend_limit_reached": NO_CREDIT,
    "enforced_spend_limit_reached": NO_CREDIT,
    "linked_organization_spend_limit_reached": NO_CREDIT,
    "linked_organization_billing_unavailable": NO_CREDIT,
    "user_profile_billing_not_authorized": NO_CREDIT,
    "user_profile_not_billable": NO_CREDIT,
    "organization_on_hold": 403,
    "ramp_limit_exceeded": 429,
    "request_body_too_large_after_decoding": 413,
    "image_dimensions_too_large": 400,  # since anthropic 2.12
    "cmek_key_unreachable": 503,
    "cmek_context_unavailable": 503,
}
"""What an error's type or code means."""
