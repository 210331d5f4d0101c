"""The wire of the management verbs: /api/pull, push, create, copy, delete and their neighbours, sans I/O.

Bodies become calls, as `ollama_decode` does it; progress is a list of lines, for what a real server downloads is here
in no time. Wrong names are told in each endpoint's own words (`ollama-api.md` §4.1).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ollama_bridge.catalog import Model
from ollama_bridge.errors import BridgeError, InvalidRequest
from ollama_bridge.names import InvalidName, parse_name
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.gotypes import decode_whole
from ollama_bridge.surfaces.ollama_models import size
from ollama_bridge.surfaces.ollama_options import read_options
from ollama_bridge.surfaces.ollama_structs import COPY, CREATE, DELETE, PULL, PUSH
from ollama_bridge.templates import InvalidTemplate, wording

PLAIN_JSON: Final = "application/json"
"""What progress is called when it is not streamed, and an error that comes instead of it."""

MAX_MADE_BYTES: Final = 128 * 1024
"""Most of what one model of one's own may add: it is read again with every change of the configuration."""

_ROLES: Final = {"system": "system", "developer": "system", "assistant": "assistant"}
_FILES: Final = ("files", "adapters", "draft_files")
_WEIGHTS: Final = ("remote_host", "quantize", "quantization", "draft_quantize")
_LONGEST_KEY: Final = 100
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class VerbCall:
    """One POST /api/pull or /api/push, or DELETE /api/delete.

    Args:
        model: As sent, in `model` or else in `name`.
        stream: Whether progress is a stream, as it is unless the client says false.
        sent: All of it but the name, with what nobody here knows.
    """

    model: str
    stream: bool = True
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def check_pull(self) -> None:
        """InvalidRequest, in the words of /api/pull, if the name is none."""
        _check_name(self.model, "invalid model name")

    def check_push(self) -> None:
        """InvalidRequest, in the words of /api/push, if the name is none."""
        _check_name(self.model)

    def check_delete(self) -> None:
        """InvalidRequest, in the words of /api/delete, if the name is none."""
        if self.model.strip():
            _check_name(self.model, f"name {gojson.quote(self.model)} is invalid")
        else:
            _check_name(self.model)


@dataclass(frozen=True, slots=True)
class CopyCall:
    """One POST /api/copy; `sent` is all of it, with what nobody here knows."""

    source: str
    destination: str
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def check(self) -> None:
        """InvalidRequest, in the words of /api/copy, if one of the names is none."""
        for what, name in (("source", self.source), ("destination", self.destination)):
            _check_name(name, f"{what} {gojson.quote(name)} is invalid")
        refuse_cloud(self.destination)

    @property
    def same(self) -> bool:
        """Whether nothing is asked for."""
        return parse_name(self.source).key == parse_name(self.destination).key

    def not_found(self) -> BridgeError:
        """What to raise when there is no such source."""
        return BridgeError(f"model {gojson.quote(self.source)} not found", status=404)


@dataclass(frozen=True, slots=True)
class CreateCall:
    """One POST /api/create.

    Args:
        model: The name of the model to be, as sent.
        stream: Whether progress is a stream.
        fields: The other fields, not judged before `made`.
        sent: All of it but the name, with what nobody here knows.
    """

    model: str
    stream: bool
    fields: Mapping[str, Any] = field(repr=False)
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def parent(self) -> str:
        """The model it is to be made from; empty: from none."""
        parent: str = self.fields.get("from", "")
        return parent

    @property
    def wants_weights(self) -> bool:
        """Whether it is to be made of what only a real Ollama has: files, or weights that it writes anew."""
        return any(self.fields.get(key) for key in (*_FILES, *_WEIGHTS))

    def check(self) -> None:
        """InvalidRequest if the name is none."""
        _check_name(self.model, "invalid model name")

    def made(self) -> tuple[str, dict[str, Any]]:
        """The model it is made from, and what it adds: keys of a `ModelConfig`, in the file's order.

        Raises:
            InvalidRequest: 400; no model can be made of this.
        """
        refuse_cloud(self.model)
        for key in _FILES:
            if self.fields.get(key):
                raise InvalidRequest(
                    f"'{key}': no model can be made from files here, for the answers come from providers; "
                    "begin the Modelfile with FROM and the name of a model that /api/tags lists"
                )
        for key in _WEIGHTS:
            if self.fields.get(key):
                raise InvalidRequest(f"'{key}' means nothing here: the answers come from providers")
        parent = self.parent
        if not parent:
            raise InvalidRequest("neither 'from' or 'files' was specified")
        _check_name(parent, f"'from': {gojson.quote(parent)} is no model name; files cannot be used here")
        refuse_cloud(parent)
        return parent, _said(self.fields)


def decode_pull(body: bytes) -> VerbCall:
    """Read the body of POST /api/pull.

    Raises:
        InvalidRequest: 400, in Ollama's words; as all of these do.
    """
    return _verb(*decode_whole(body, PULL))


def decode_push(body: bytes) -> VerbCall:
    """Read the body of POST /api/push."""
    return _verb(*decode_whole(body, PUSH))


def decode_delete(body: bytes) -> VerbCall:
    """Read the body of DELETE /api/delete."""
    return _verb(*decode_whole(body, DELETE))


def decode_copy(body: bytes) -> CopyCall:
    """Read the body of POST /api/copy."""
    sent, whole = decode_whole(body, COPY)
    return CopyCall(sent.get("source", ""), sent.get("destination", ""), whole)


def decode_create(body: bytes) -> CreateCall:
    """Read the body of POST /api/create."""
    sent, whole = decode_whole(body, CREATE)
    call = _verb(sent, whole)
    return CreateCall(call.model, call.stream, sent, call.sent)


def pulled(model: Model) -> list[bytes]:
    """The progress of a pull: everything was here already."""
    return [
        progress("pulling manifest"),
        progress(
            f"pulling {_layer(model)[:12]}",
            digest=f"sha256:{_layer(model)}",
            total=size(model),
            completed=size(model),
        ),
        progress("verifying sha256 digest"),
        progress("writing manifest"),
        progress("success"),
    ]


def created(model: Model, said: Mapping[str, Any]) -> list[bytes]:
    """The progress of a create: one layer that was there already, one for each thing that was added."""
    layers = (hashlib.sha256(orjson.dumps(layer)).hexdigest() for layer in said.items())
    return [
        progress(f"using existing layer sha256:{_layer(model)}"),
        *(progress(f"creating new layer sha256:{digest}") for digest in layers),
        progress("writing manifest"),
        progress("success"),
    ]


def progress(status: str, **more: Any) -> bytes:
    """One line."""
    return gojson.dump({"status": status, **more}) + b"\n"


def failure(message: str) -> bytes:
    """The line with which a stream fails."""
    return gojson.dump({"error": message}) + b"\n"


def no_manifest(name: str) -> str:
    """In the words of /api/push, why a model that is not here cannot be pushed."""
    found = parse_name(name)
    path = f"{found.host}/{found.namespace}/{found.model}/{found.tag}"
    return f"open manifests/{path}: no such file or directory"


def blob_digest(text: str) -> str:
    """The 64 hexadecimal digits of a digest as it stands in a path.

    Raises:
        InvalidRequest: It is none.
    """
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise InvalidRequest("invalid digest format")
    return found[1].lower()


def recommendations_body(models: Iterable[Model]) -> bytes:
    """The body of /api/experimental/model-recommendations: what one can chat with."""
    shown = [
        {
            "model": model.name.removesuffix(":latest"),
            "description": model.config.description or model.display_name,
            "context_length": model.context_length,
            "max_output_tokens": model.max_output_tokens,
        }
        for model in models
        if "completion" in model.capabilities
    ]
    return gojson.dump({"recommendations": shown})


def is_cloud(name: str) -> bool:
    """Whether clients take the name for one of ollama.com's."""
    tag = parse_name(name).tag.lower()
    return tag == "cloud" or tag.endswith("-cloud")


def refuse_cloud(name: str) -> None:
    """InvalidRequest if clients would take the name for one of ollama.com's."""
    if is_cloud(name):
        raise InvalidRequest(
            f"'{name}' is a name of ollama.com's cloud, which this bridge does not reach; choose a name "
            "without ':cloud' and '-cloud'"
        )


def _layer(model: Model) -> str:
    """What stands for the weights: one digest for all models that one provider's model answers for."""
    return hashlib.sha256(f"{model.target.provider}/{model.target.model}".encode()).hexdigest()


def _verb(sent: Mapping[str, Any], whole: Mapping[str, Any]) -> VerbCall:
    nameless = {key: value for key, value in whole.items() if key not in {"model", "name"}}
    return VerbCall(sent.get("model") or sent.get("name", ""), sent.get("stream", True), nameless)


def _said(sent: Mapping[str, Any]) -> dict[str, Any]:
    """What a Modelfile says, checked, and small enough to be kept."""
    said = {
        "system": sent.get("system", ""),
        "parameters": _parameters(sent.get("parameters", {})),
        "messages": [
            {"role": _ROLES.get(one.get("role", "").lower(), "user"), "content": one.get("content", "")}
            for one in sent.get("messages", ())
        ],
        "template": sent.get("template", ""),
        "license": _license(sent.get("license")),
    }
    try:
        wording(said["template"])
    except InvalidTemplate as exc:
        raise InvalidRequest(f"template error: {exc}") from None
    try:
        length = len(orjson.dumps(said))
    except TypeError:
        raise InvalidRequest("parameters are nested too deeply or hold a number that is too large") from None
    if length > MAX_MADE_BYTES:
        raise InvalidRequest(
            f"system, messages and the rest are longer than {MAX_MADE_BYTES} bytes", status=413
        )
    return {key: value for key, value in said.items() if value}


def _parameters(sent: Mapping[str, Any]) -> dict[str, Any]:
    try:
        options = read_options(sent)
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc)) from None  # 400: nothing has been loaded yet
    if any(len(key) > _LONGEST_KEY for key in options):
        raise InvalidRequest(f"the name of a parameter is longer than {_LONGEST_KEY} characters")
    return options


def _license(sent: Any) -> str:
    """One text or several; anything else is none, as in Ollama."""
    if isinstance(sent, list):
        return "\n".join(one for one in sent if isinstance(one, str))
    return sent if isinstance(sent, str) else ""


def _check_name(name: str, words: str = "") -> None:
    """InvalidRequest with `words`, or with Ollama's own complaint."""
    try:
        parse_name(name)
    except InvalidName as invalid:
        own = str(invalid)
        raise InvalidRequest(words if words and not own.startswith("use either") else own) from None
