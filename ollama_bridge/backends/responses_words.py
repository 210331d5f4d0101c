"""The words of OpenAI's Responses API, and what each comes to: a test holds these tables to the SDK's types."""

from collections.abc import Mapping
from typing import Final

from ollama_bridge.events import FinishReason

INCOMPLETE: Final[Mapping[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "refusal",
    "max_messages": "length",
    "steered": "stop",
}
"""`incomplete_details.reason` to ours; an unknown one counts as `length`: the answer is not whole."""

END_EVENTS: Final[Mapping[str, str]] = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    # Of others than OpenAI
    "response.done": "completed",
    "response.cancelled": "cancelled",
    "response.canceled": "cancelled",
}
"""Events that end a response, and how; the `status` of one that is "completed" may tell another end."""

STATUSES: Final[Mapping[str, str]] = {
    "completed": "completed",
    "incomplete": "incomplete",
    "failed": "failed",
    "cancelled": "cancelled",
    # Of a response that has ended: nobody has brought it up to date.
    "in_progress": "completed",
    "queued": "completed",
}
"""A response's `status` to how it ended; an unknown one changes nothing."""

PASSED_EVENTS: Final[Mapping[str, bool]] = {
    # Signs of life, footnotes, and what the provider's own tools are doing
    **dict.fromkeys(
        "keepalive response.created response.queued response.in_progress response.compaction.compacting "
        "response.content_part.added response.output_text.annotation.added "
        "response.code_interpreter_call.in_progress response.code_interpreter_call.interpreting "
        "response.code_interpreter_call.completed response.code_interpreter_call_code.delta "
        "response.code_interpreter_call_code.done response.file_search_call.in_progress "
        "response.file_search_call.searching response.file_search_call.completed "
        "response.web_search_call.in_progress response.web_search_call.searching "
        "response.web_search_call.completed response.image_generation_call.in_progress "
        "response.image_generation_call.generating response.image_generation_call.partial_image "
        "response.image_generation_call.completed response.mcp_call_arguments.delta "
        "response.mcp_call_arguments.done response.mcp_call.in_progress response.mcp_call.completed "
        "response.mcp_call.failed response.mcp_list_tools.in_progress response.mcp_list_tools.completed "
        "response.mcp_list_tools.failed response.shell_call_command.added "
        "response.shell_call_command.delta response.shell_call_command.done "
        "response.shell_call_output_content.delta response.shell_call_output_content.done".split(),
        False,
    ),
    # An answer in sound, which no client of ours asks for, and none could take
    **dict.fromkeys(
        "response.audio.delta response.audio.done response.audio.transcript.delta "
        "response.audio.transcript.done".split(),
        True,
    ),
}
"""Events that are not read, and whether the log is to tell of them; it does of those that are not known."""

PASSED_ITEMS: Final[Mapping[str, bool]] = {
    # What the provider does by itself, with its result in the text, and what clients say
    **dict.fromkeys(
        "web_search_call file_search_call code_interpreter_call mcp_call mcp_list_tools mcp_approval_response "
        "tool_search_call tool_search_output additional_tools compaction program program_output "
        "function_call_output custom_tool_call_output computer_call_output local_shell_call_output "
        "shell_call_output apply_patch_call_output".split(),
        False,
    ),
    # What no client of ours asks for, and none could show or do
    **dict.fromkeys(
        "image_generation_call computer_call local_shell_call shell_call apply_patch_call "
        "mcp_approval_request".split(),
        True,
    ),
}
"""As `PASSED_EVENTS`, of the items of the output."""
