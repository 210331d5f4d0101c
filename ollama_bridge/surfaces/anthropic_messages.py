"""The wire of Anthropic's Messages API: /v1/messages and /v1/messages/count_tokens, sans I/O.

decode_messages, decode_count_tokens    a body into a call; see `messages_decode`
MessagesEncoder                         events into server-sent events, or into one message; see `messages_encode`
count_tokens_body, error_body           single objects
"""

from ollama_bridge.surfaces.messages_decode import MessagesCall, decode_count_tokens, decode_messages
from ollama_bridge.surfaces.messages_encode import MessagesEncoder, count_tokens_body, error_body

__all__ = [
    "MessagesCall",
    "MessagesEncoder",
    "count_tokens_body",
    "decode_count_tokens",
    "decode_messages",
    "error_body",
]
