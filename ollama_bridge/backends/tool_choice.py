"""Which tools a model is to call, as far as it can be told."""

from typing import Final

from ollama_bridge.chat import ChatRequest, ToolChoice

AUTO: Final = ToolChoice()
"""What every provider does that is told nothing."""


def forces(request: ChatRequest) -> bool:
    """Whether the client leaves the model no choice but to call a tool."""
    choice = request.tool_choice
    return bool(request.tools) and choice is not None and choice.mode in {"required", "tool"}


def choice_for(request: ChatRequest, dropped: list[str], *, can_force: bool = True) -> ToolChoice:
    """What to ask for; `AUTO` where nothing has to be said.

    Args:
        request: Whose `tool_choice` it is.
        dropped: Gets `tool_choice` if the client wants a call that the model cannot be made to make.
        can_force: Whether the rest of the request lets it be made to call.
    """
    wanted = request.tool_choice
    if wanted is None or not request.tools:
        return AUTO
    if forces(request) and not (can_force and request.target.rules.forced_tools):
        dropped.append("tool_choice")
        return AUTO
    return wanted
