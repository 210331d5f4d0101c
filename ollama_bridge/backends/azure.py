"""Where Azure answers: its v1 API, or a path for each deployment where a dated version is asked for. Pure.

https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
"""

from typing import Final
from urllib.parse import quote, urlsplit

_UNDATED: Final = frozenset({"", "v1", "latest", "preview"})
"""Versions of the v1 API: the last two are those that it takes as a parameter, for what is new."""

_OWN: Final = frozenset({"", "/openai", "/openai/v1"})
"""Paths of what people take for the address of their resource."""

_OF_DEPLOYMENTS: Final = frozenset({"/chat/completions", "/completions", "/embeddings"})


def route(base_url: str, path: str, model: str, api_version: str) -> str:
    """The URL for one request.

    Args:
        base_url: The resource, with or without a path of its own; under another path, such as `/models` of a Foundry
            project, all is asked as it is.
        path: As OpenAI has it below `/v1`.
        model: The name of the deployment.
        api_version: Such as `2024-10-21`; empty: the v1 API.
    """
    parts = urlsplit(base_url)
    base = base_url.rstrip("/")
    if parts.path.rstrip("/") not in _OWN:
        where = f"{base}{path}"
    elif api_version in _UNDATED:
        where = f"{parts.scheme}://{parts.netloc}/openai/v1{path}"
    elif path in _OF_DEPLOYMENTS:
        where = f"{parts.scheme}://{parts.netloc}/openai/deployments/{quote(model, safe='')}{path}"
    else:
        where = f"{parts.scheme}://{parts.netloc}/openai{path}"
    return f"{where}?api-version={api_version}" if api_version not in {"", "v1"} else where


def is_dated(api_version: str) -> bool:
    """Whether it is a version of the API before v1, where one asks by Chat Completions."""
    return api_version not in _UNDATED
