"""The wire of Ollama's own API: /api/chat, /api/generate and the questions of /api/show, sans I/O.

decode_chat, decode_generate, decode_show     a body into a call; see `ollama_decode`
ChatEncoder, GenerateEncoder                  events into lines, or into one object; see `ollama_encode`
load_reply, debug_reply                       what is no answer of a model; see `ollama_single`
error_body                                    a failure
JSON, NDJSON, content_type_of_error           what to call them in HTTP
"""

from ollama_bridge.errors import BridgeError, UpstreamError
from ollama_bridge.surfaces.ollama_decode import (
    Call,
    ChatCall,
    GenerateCall,
    ShowCall,
    decode_chat,
    decode_generate,
    decode_show,
)
from ollama_bridge.surfaces.ollama_encode import (
    JSON,
    NDJSON,
    ChatEncoder,
    GenerateEncoder,
    error_body,
)
from ollama_bridge.surfaces.ollama_options import InvalidFormat
from ollama_bridge.surfaces.ollama_single import debug_reply, load_reply

__all__ = [
    "JSON",
    "NDJSON",
    "Call",
    "ChatCall",
    "ChatEncoder",
    "GenerateCall",
    "GenerateEncoder",
    "ShowCall",
    "content_type_of_error",
    "debug_reply",
    "decode_chat",
    "decode_generate",
    "decode_show",
    "error_body",
    "load_reply",
]


def content_type_of_error(exc: BridgeError, stream: bool) -> str:
    """What an answer that failed before its first line is called.

    Ollama prepares a stream before it asks its runner, and so loses the charset if the runner then fails. A real one's
    own error is called what that one calls it.
    """
    if isinstance(exc, UpstreamError) and exc.told is not None and exc.told.content_type:
        return exc.told.content_type
    late = isinstance(exc, UpstreamError | InvalidFormat)
    return "application/json" if stream and late else JSON
