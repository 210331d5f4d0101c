"""What Ollama tells about its models: the bodies of /api/tags, /api/show, /api/ps and /api/version.

Pure, and from memory alone: opencode gives each of these calls one second. What a real Ollama has is shown as that one
shows it. Key order, absent keys and escapes
are those of a real server (v0.33); what is said where the bridge has no honest value is chosen for the strictest
clients, all strings and never null:

- `format` is "gguf": empty strings are real too (cloud stubs), but some clients show only what they can "run".
- `size` is the length of the modelfile, as a cloud stub's is: Zed and koog demand a number, `ollama list` shows it.
- No `remote_model` and `remote_host`: they would make `ollama run` skip its preload and `ollama launch` ask for an
  account at ollama.com, and no IDE is known to gain by them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from heapq import merge
from typing import Any, Final

import orjson

from ollama_bridge.catalog import Model
from ollama_bridge.registry import Loaded
from ollama_bridge.surfaces import gojson

VERSION: Final = "0.33.0"
"""The Ollama that we are. Plain numbers: VS Code compares them, and wants at least 0.6.4."""

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_COPILOT: Final = "GitHubCopilotChat/"
_LICENSE: Final = "Answered by the provider's own service, under the provider's terms."
_UNKNOWN: Final = "unknown"  # Ollama's own word, where a GGUF file does not say its quantization


class _LastTags:
    models: tuple[Model, ...] = ()
    body: bytes = b'{"models":[]}'


def version_body(version: str = VERSION) -> bytes:
    """The body of /api/version."""
    return gojson.dump({"version": version})


def tags_body(models: tuple[Model, ...]) -> bytes:
    """The body of /api/tags, in the order given.

    The last one made is kept as long as it is asked for with the same tuple, which `ModelRegistry.models()` is
    until something changes: editors ask every few seconds.
    """
    if _LastTags.models is not models:
        _LastTags.body = gojson.dump({"models": [_tag(model) for model in models]})
        _LastTags.models = models
    return _LastTags.body


def show_body(
    model: Model,
    *,
    requested: str = "",
    user_agent: str = "",
    system: str = "",
    options: Mapping[str, Any] | None = None,
) -> bytes:
    """The body of /api/show.

    Args:
        model: Which.
        requested: The name as the client sent it.
        user_agent: Of the client; Copilot's is answered with `requested` as `general.basename`.
        system: From the request; shown instead of the model's own, as a real server does.
        options: From the request; echoed in the modelfile only, as a real server does.
    """
    basename = requested if user_agent.startswith(_COPILOT) else model.display_name
    template = _template(model)
    preset = model.preset
    system = system or preset.system
    body: dict[str, Any] = {
        "license": preset.license or _LICENSE,
        "modelfile": _modelfile(model, template, system, options or {}),
        # Continue reads the context length here and nowhere else, and DevoxxGenie here first.
        "parameters": "\n".join(_parameters(_options(model), _dumped, "{:<30} {}")),
        "template": template,
    }
    if system:
        body["system"] = system
    body["details"] = {**_details(model), "parent_model": preset.parent}
    if preset.messages:
        body["messages"] = [{"role": one.role, "content": one.content} for one in preset.messages]
    body["model_info"] = _model_info(model, basename)
    if model.capabilities:
        body["capabilities"] = model.capabilities
    body["modified_at"] = rfc3339(model.modified_at)
    return gojson.dump(body)


def _model_info(model: Model, basename: str) -> dict[str, Any]:
    """Sorted, as Go writes a map."""
    info = {
        "general.architecture": model.family,
        "general.basename": basename,
        "general.parameter_count": 0,
        f"{model.family}.context_length": model.context_length,
        f"{model.family}.embedding_length": model.embedding_length,
    }
    return dict(sorted(info.items()))


def amended(model: Model, *, requested: str, user_agent: str) -> Callable[[bytes], bytes] | None:
    """What changes a real Ollama's own body of /api/show; None: it is shown as it is.

    Args:
        model: Which; what the configuration says of it goes before what that one says.
        requested: As for `show_body`.
        user_agent: As for `show_body`.
    """
    config = model.config
    for_copilot = user_agent.startswith(_COPILOT)
    if not (for_copilot or config.capabilities is not None or config.context_length or config.system):
        return None

    def amend(body: bytes) -> bytes:
        shown = orjson.loads(body)
        info = shown.setdefault("model_info", {})
        if for_copilot:
            info["general.basename"] = requested
        if config.context_length:
            info[f"{info.get('general.architecture')}.context_length"] = config.context_length
        if config.capabilities is not None:
            shown["capabilities"] = model.capabilities
        if config.system:
            shown["system"] = config.system
        return gojson.dump(shown)

    return amend


def ps_body(
    models: Iterable[Model],
    loaded: Sequence[Loaded],
    running: Iterable[tuple[Model, Mapping[str, Any]]] = (),
) -> bytes:
    """The body of /api/ps, what is kept longest first.

    Args:
        models: All that are offered; what is loaded and no longer offered is left out.
        loaded: As `Residency.loaded` has it; a real Ollama says itself what it has loaded.
        running: The models of real Ollamas, each with its place in that one's own list.
    """
    by_name = {model.name: model for model in models if model.resident is None}
    rows = [
        (one.expires_at, _process(by_name[one.name], one.expires_at)) for one in loaded if one.name in by_name
    ]
    there = [
        (moment(row.get("expires_at")) or _LONG_AGO, {**row, "name": model.name, "model": model.name})
        for model, row in running
    ]
    if rows and there:  # each alone is in order, be it that of an older Ollama
        there.sort(key=lambda row: row[0], reverse=True)
        rows = list(merge(rows, there, key=lambda row: row[0], reverse=True))
    return gojson.dump({"models": [shown for _, shown in rows or there]})


def moment(said: Any) -> datetime | None:
    """A time as a real Ollama writes it, in UTC; None: it is none."""
    try:
        return datetime.fromisoformat(said).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def rfc3339(moment: datetime) -> str:
    """As Go writes a time in UTC: at most nine digits of a second, no trailing zeros, `Z`."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


def _tag(model: Model) -> dict[str, Any]:
    if model.resident is not None and model.resident.entry is not None:
        return _own_tag(model, model.resident.entry)
    tag: dict[str, Any] = {
        "name": model.name,
        "model": model.name,
        "modified_at": rfc3339(model.modified_at),
        "size": size(model),
        "digest": model.digest,
        "details": {
            **_details(model),
            "context_length": model.context_length,
            "embedding_length": model.embedding_length,
        },
    }
    if model.capabilities:
        tag["capabilities"] = model.capabilities
    return tag


def _own_tag(model: Model, entry: Mapping[str, Any]) -> dict[str, Any]:
    """As the real Ollama that has it shows it, but for what the configuration says."""
    tag = {**entry, "name": model.name, "model": model.name}
    config, details = model.config, entry.get("details")
    if config.context_length and isinstance(details, dict):
        tag["details"] = {**details, "context_length": config.context_length}
    if config.capabilities is not None:
        tag["capabilities"] = model.capabilities
    return tag


def _process(model: Model, expires_at: datetime) -> dict[str, Any]:
    length = size(model)
    return {
        "name": model.name,
        "model": model.name,
        "size": length,
        "digest": model.digest,
        "details": _details(model),
        "expires_at": rfc3339(expires_at),
        # All of it on a GPU, if not on ours: less would make `ollama ps` warn of a slow CPU.
        "size_vram": length,
        "context_length": model.context_length,
    }


def _details(model: Model) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": _UNKNOWN,
        "quantization_level": _UNKNOWN,
    }


def _template(model: Model) -> str:
    """Read by clients for two words: LiteLLM takes `tools` for tool support, Continue `.Suffix` for completion."""
    if model.preset.template:
        return model.preset.template
    tools = "{{ if .Tools }}{{ .Tools }}\n\n{{ end }}" if "tools" in model.capabilities else ""
    suffix = "{{ if .Suffix }}{{ .Suffix }}{{ end }}" if "insert" in model.capabilities else ""
    return "{{ if .System }}{{ .System }}\n\n{{ end }}" + tools + "{{ .Prompt }}" + suffix


def _modelfile(model: Model, template: str, system: str, options: Mapping[str, Any]) -> str:
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {model.name}",
        "",
        f"FROM {model.preset.parent or model.name}",
        f"TEMPLATE {_quoted(template)}",
    ]
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    lines += _parameters({**_options(model), **options}, _parameter, "PARAMETER {} {}")
    lines.append(f"LICENSE {_quoted(model.preset.license or _LICENSE)}")
    lines += [f"MESSAGE {one.role} {_quoted(one.content)}" for one in model.preset.messages]
    return "\n".join(lines) + "\n"


def _options(model: Model) -> dict[str, Any]:
    return {"num_ctx": model.context_length, **model.preset.options}


def _parameters(options: Mapping[str, Any], shown: Callable[[Any], str], line: str) -> list[str]:
    """A line for each value, those of lists one by one."""
    return [
        line.format(name, shown(one))
        for name, value in sorted(options.items())
        for one in (value if isinstance(value, list) else [value])
    ]


def _dumped(value: Any) -> str:
    """As Go prints it with `%#v`: text in quotes."""
    return gojson.quote(value) if isinstance(value, str) else gojson.dump(value).decode()


def _parameter(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else gojson.dump(value).decode()


def _quoted(text: str) -> str:
    """As Ollama quotes in a Modelfile: only what needs it, and by three quotes what holds one."""
    if "\n" not in text and text == text.strip(" "):
        return text
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def size(model: Model) -> int:
    """Bytes of the model, as far as lists know: there is nothing of it here but its modelfile."""
    return len(_modelfile(model, _template(model), "", {}).encode())
