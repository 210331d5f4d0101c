"""Every word that the installed SDKs have for what a model says has been decided upon: a new one fails here first."""

import typing
from typing import get_args, get_origin

import pytest
from anthropic import types as claude
from anthropic.types import beta
from anthropic.types.shared.error_type import ErrorType
from google.genai import types as gemini
from openai.types.responses import (
    ResponseContentPartDoneEvent,
    ResponseError,
    ResponseOutputItem,
    ResponseStatus,
    ResponseStreamEvent,
)
from openai.types.responses.response import IncompleteDetails

from ollama_bridge.backends.anthropic_stream import Reader
from ollama_bridge.backends.anthropic_thinking import SIGNED_FIELDS
from ollama_bridge.backends.anthropic_words import (
    ANTHROPIC_ERROR_TYPES,
    PASSED_BLOCKS,
    PASSED_DELTAS,
    READ_BLOCKS,
    STOP_REASONS,
)
from ollama_bridge.backends.google_params import LEVELS
from ollama_bridge.backends.google_words import EXPLANATIONS, FINISH_REASONS, PARTS, UNSPECIFIED
from ollama_bridge.backends.openai import OPENAI_ERROR_TYPES
from ollama_bridge.backends.responses_stream import ResponsesReader
from ollama_bridge.backends.responses_words import (
    END_EVENTS,
    INCOMPLETE,
    PASSED_EVENTS,
    PASSED_ITEMS,
    STATUSES,
)
from ollama_bridge.catalog_data import CATALOG


def members(union):
    """The classes of a union, whatever it is wrapped in."""
    if get_origin(union) is typing.Annotated:
        return members(get_args(union)[0])
    if isinstance(union, type):
        return [union] if union is not type(None) else []
    return [one for part in get_args(union) for one in members(part)]


def words(annotation):
    """The words of a literal, wherever it stands in an annotation."""
    if get_origin(annotation) is typing.Literal:
        return set(get_args(annotation))
    return {word for part in get_args(annotation) for word in words(part)}


def kinds(union):
    """What the members of a union call themselves in their `type`."""
    return {word for one in members(union) for word in words(one.model_fields["type"].annotation)}


def test_the_events_of_a_response():
    """Each is read or passed over, none both; what is known besides ends a response of somebody else's, or is no word."""
    read, passed = set(ResponsesReader._table), set(PASSED_EVENTS)
    assert read & passed == set()
    assert kinds(ResponseStreamEvent) <= read | passed
    assert (read | passed) - kinds(ResponseStreamEvent) <= {*END_EVENTS, "keepalive"}


def test_the_events_that_hold_a_response():
    """Those end it, or come before anything is said."""
    holding = {
        word
        for one in members(ResponseStreamEvent)
        if "response" in one.model_fields
        for word in words(one.model_fields["type"].annotation)
    }
    assert holding - set(END_EVENTS) == {"response.created", "response.in_progress", "response.queued"}


def test_the_items_of_a_response():
    """Each is read or passed over, none both."""
    read, passed = set(ResponsesReader._items_table), set(PASSED_ITEMS)
    assert read & passed == set()
    assert kinds(ResponseOutputItem) == read | passed


def test_the_parts_of_an_item():
    """Text, refusal and reasoning are all there are."""
    parts = kinds(ResponseContentPartDoneEvent.model_fields["part"].annotation)
    assert parts == {"output_text", "refusal", "reasoning_text"}


@pytest.mark.parametrize(
    ("known", "annotation"),
    [
        (STATUSES, ResponseStatus),
        (INCOMPLETE, IncompleteDetails.model_fields["reason"].annotation),
    ],
    ids=["status", "reason"],
)
def test_how_a_response_ends(known, annotation):
    """Each status and each reason to be incomplete has its meaning."""
    assert set(known) == words(annotation)


def test_the_errors_of_a_response():
    """Each code has a meaning; without one all would be failures that may pass."""
    assert words(ResponseError.model_fields["code"].annotation) <= set(OPENAI_ERROR_TYPES)


# -------------------------------------------------------------------------------------------------- Gemini


def values(enum):
    return {member.value for member in enum}


def test_the_finish_reasons_of_gemini():
    """Each is a stop, a limit, a refusal or a failure."""
    assert set(FINISH_REASONS) == values(gemini.FinishReason)
    assert UNSPECIFIED in FINISH_REASONS


def test_every_refusal_of_gemini_has_its_words():
    """Of an answer and of a prompt: a client that is shown nothing else is shown these."""
    refusals = {word for word, reason in FINISH_REASONS.items() if reason == "refusal"}
    assert set(EXPLANATIONS) == refusals | values(gemini.BlockedReason)


def test_the_parts_of_gemini():
    """Each is read, or passed over in silence, or told of in the log."""
    assert set(PARTS) == {field.alias or name for name, field in gemini.Part.model_fields.items()}


def test_the_fields_of_a_call_of_gemini():
    """A call and a piece of its arguments hold nothing that is not put together."""
    assert set(gemini.FunctionCall.model_fields) == {"id", "args", "name", "partial_args", "will_continue"}
    assert set(gemini.PartialArg.model_fields) == {
        *("bool_value", "json_path", "null_value", "number_value", "string_value", "will_continue")
    }


def test_the_levels_of_thinking():
    """Each that Gemini knows can be asked for."""
    assert set(LEVELS.values()) == values(gemini.ThinkingLevel) - {"THINKING_LEVEL_UNSPECIFIED"}


def test_the_counts_of_gemini():
    """A count of tokens that is new may have to be added to ours."""
    counts = {
        name for name in gemini.GenerateContentResponseUsageMetadata.model_fields if "token_count" in name
    }
    assert counts == {
        *(
            "prompt_token_count",
            "tool_use_prompt_token_count",
            "candidates_token_count",
            "thoughts_token_count",
        ),
        *("cached_content_token_count", "total_token_count"),
    }


# -------------------------------------------------------------------------------------------------- Claude


def test_the_events_of_claude():
    """Each is read; `ping` and `error`, which the SDK keeps to itself, are known as well."""
    assert kinds(claude.RawMessageStreamEvent) | {"error"} == set(Reader._handlers)
    assert kinds(beta.BetaRawMessageStreamEvent) <= set(Reader._handlers)


def test_the_blocks_of_claude():
    """Each is read or passed over, none both; gateways may switch on what is beta."""
    begun = claude.RawContentBlockStartEvent.model_fields["content_block"].annotation
    in_beta = beta.BetaRawContentBlockStartEvent.model_fields["content_block"].annotation
    assert set(PASSED_BLOCKS) & READ_BLOCKS == set()
    assert kinds(begun) | kinds(in_beta) | kinds(claude.ContentBlock) == READ_BLOCKS | set(PASSED_BLOCKS)


def test_the_deltas_of_claude():
    """What a block can go on with is kept with it, or passed over."""
    assert kinds(claude.RawContentBlockDelta) == set(Reader._deltas)
    assert kinds(beta.BetaRawContentBlockDelta) == set(Reader._deltas) | set(PASSED_DELTAS)


def test_the_thinking_that_claude_wants_back():
    """All of a block of thinking is, and nothing else."""
    blocks = {one: set(one.model_fields) for one in (claude.ThinkingBlock, claude.RedactedThinkingBlock)}
    assert list(blocks.values()) == [set(fields) for fields in SIGNED_FIELDS.values()]


def test_the_stop_reasons_of_claude():
    """Each has its meaning, in beta too."""
    assert set(STOP_REASONS) == words(claude.StopReason) | words(beta.BetaStopReason)


def test_the_details_of_a_refusal():
    """What is said to a client that is shown nothing else."""
    assert set(claude.RefusalStopDetails.model_fields) == {"type", "category", "explanation"}


def test_the_ways_to_think_and_the_efforts_of_claude():
    """What the catalogue says a model takes, the SDK knows."""
    ways = {
        word
        for one in members(claude.ThinkingConfigParam)
        for word in words(typing.get_type_hints(one)["type"])
    }
    efforts = words(typing.get_type_hints(claude.OutputConfigParam)["effort"])
    rules = [facts.rules for facts in CATALOG["anthropic"]]
    assert ways == {"adaptive", "enabled", "disabled", "between_tools"}
    assert {way for rule in rules for way in rule.thinking} <= (ways - {"enabled"}) | {"budget"}
    assert {effort for rule in rules for effort in rule.efforts} <= efforts


def test_the_errors_of_claude():
    """Each type has a status; memory stores are not for us."""
    types = {kind for kind in words(ErrorType) if not kind.startswith("memory_")}
    assert types | kinds(claude.ErrorObject) <= set(ANTHROPIC_ERROR_TYPES)


SAYS_NO_MORE = set(
    "available_tools_limit_exceeded claude_code_key_creator_not_member claude_code_version_too_old "
    "cmek_key_disabled cmek_key_network_blocked compaction_block_ambiguous compaction_block_misplaced "
    "compaction_content_mismatch compaction_incomplete_turn compaction_nothing_to_summarize "
    "compaction_signature_invalid compaction_too_many_tool_references compaction_tool_changes_mismatch "
    "compaction_unavailable request_body_encoding_invalid request_body_encoding_unsupported "
    "thread_already_continued thread_continue_in_flight thread_fingerprint_mismatch thread_not_found "
    "thread_unsupported_request tool_name_conflict tool_reference_unresolved user_profile_required "
    "user_profile_not_found skill_read_blocked_undecryptable storage_quota_exceeded file_not_downloadable "
    "file_expired sandbox_egress_restricted organization_type_not_supported parent_organization_required "
    # of the administration of organizations
    "org_api_key_limit_exceeded workspace_api_key_limit_exceeded external_key_in_workspace_policy "
    "already_member cannot_invite_emails_with_unverified_domains email_domain_not_allowed "
    "invite_already_exists org_member_limit_exceeded rbac_group_grants_owner_access "
    "rbac_group_owner_access_unconfirmed cannot_remove_last_member concurrent_membership_change "
    "external_key_validation_failed external_key_validation_timed_out key_profile_mismatch "
    "workspace_policy_violation external_key_changed workspace_member_limit_exceeded rbac_role_not_found".split()
)
"""Codes that say no more than the type and status of the error that they come with."""


def test_the_error_codes_of_claude():
    """Each code outside of beta was looked at: what it means is in the table, or it says no more than the type."""
    codes = {
        word
        for one in members(claude.ErrorDetails)
        if not one.__name__.startswith("Beta")
        for word in words(one.model_fields["error_code"].annotation)
    }
    assert codes - SAYS_NO_MORE <= set(ANTHROPIC_ERROR_TYPES)
    assert set() == SAYS_NO_MORE - codes == SAYS_NO_MORE & set(ANTHROPIC_ERROR_TYPES)
