"""What /v1/embeddings asks and answers, sans I/O: OpenAI's dialect of /api/embed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ollama_bridge.chat import Embeddings
from ollama_bridge.surfaces import gojson, vectors
from ollama_bridge.surfaces.converter import ConverterError, decode_body
from ollama_bridge.surfaces.gotypes import ANY, INT, STRING, Struct
from ollama_bridge.surfaces.ollama_embed import EmbedCall, read_dimensions, read_input, tokens_of

_REQUEST: Final = Struct(
    "EmbedRequest",
    {"input": ANY, "model": STRING, "dimensions": INT, "encoding_format": STRING},
    "openai",
)
_FORMATS: Final[Mapping[str, Literal["float", "base64"]]] = {
    "": "float",
    "float": "float",
    "base64": "base64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIEmbedCall(EmbedCall):
    """One POST /v1/embeddings.

    Args:
        encoding_format: How the vectors are wanted.
    """

    encoding_format: Literal["float", "base64"] = "float"


def decode_embeddings(body: bytes) -> OpenAIEmbedCall:
    """Read the body of POST /v1/embeddings.

    Raises:
        InvalidRequest: 400, in Ollama's words; of what is wrong before it becomes a native request, a
            `ConverterError`.
    """
    sent = decode_body(body, _REQUEST)
    wanted = sent.get("encoding_format", "")
    encoding_format = _FORMATS.get(wanted.lower())
    if encoding_format is None:
        raise ConverterError(
            f"Invalid value for 'encoding_format' = {wanted}. Supported values: ['float', 'base64']."
        )
    texts = sent.get("input")
    if texts is None or texts == []:
        raise ConverterError("invalid input")
    return OpenAIEmbedCall(
        model=sent.get("model", ""),
        inputs=("",) if texts == "" else read_input(texts),
        dimensions=read_dimensions(sent),
        encoding_format=encoding_format,
    )


class EmbeddingsReply:
    """The reply to one call."""

    def __init__(self, call: OpenAIEmbedCall) -> None:
        self._call = call

    def __call__(self, answer: Embeddings) -> bytes:
        """Unit vectors in float32, as the client wants them written."""
        call, tokens = self._call, tokens_of(self._call, answer)
        found = (vectors.unit(vector, call.dimensions) for vector in answer.vectors)
        if call.encoding_format == "base64":
            written = [b'"%b"' % vectors.base64_text(vector) for vector in found]
        else:
            written = [vectors.numbers(vector) for vector in found]
        entries = b",".join(
            b'{"object":"embedding","embedding":%b,"index":%d}' % (vector, index)
            for index, vector in enumerate(written)
        )
        return (
            b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}\n'
            % (entries, gojson.dump(call.model), tokens, tokens)
        )
