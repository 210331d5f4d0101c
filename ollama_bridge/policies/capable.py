"""What a request needs and a model lacks: who may answer in place of the model that was asked. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

from ollama_bridge.catalog import Model
from ollama_bridge.chat import ChatRequest, Message

_CHAT_NEEDS: Final[tuple[tuple[str, Callable[[ChatRequest], bool], Callable[[Model], bool]], ...]] = (
    (
        "tools",
        lambda request: bool(request.tools) or any(map(_speaks_of_tools, request.messages)),
        lambda model: "tools" in model.capabilities,
    ),
    (
        "vision",
        lambda request: any(message.images for message in request.messages),
        lambda model: "vision" in model.capabilities,
    ),
    (
        "thinking",
        lambda request: bool(request.think),
        lambda model: "thinking" in model.capabilities,
    ),
    (
        "insert",
        lambda request: request.infill is not None,
        lambda model: "insert" in model.capabilities,
    ),
    (
        "a schema for its answer",
        lambda request: isinstance(request.format, Mapping),
        lambda model: model.target.rules.schema,
    ),
    (
        "completion",
        lambda _: True,
        lambda model: "completion" in model.capabilities,
    ),
)
"""A need, whether a request has it, and whether a model meets it."""


def lacks(model: Model, request: ChatRequest) -> str:
    """What `request` needs that `model` does not have; empty: nothing."""
    return next((need for need, has, meets in _CHAT_NEEDS if has(request) and not meets(model)), "")


def embeds_alike(model: Model, asked: Model) -> bool:
    """Whether `model` is the same as `asked` behind another provider: vectors of two models do not mix."""
    return "embedding" in model.capabilities and _bare(model.target.model) == _bare(asked.target.model)


def _bare(model_id: str) -> str:
    """Gateways put the maker's name in front: `openai/text-embedding-3-small`."""
    return model_id.rpartition("/")[2].lower()


def _speaks_of_tools(message: Message) -> bool:
    return message.role == "tool" or bool(message.tool_calls)
