"""How clients of OpenAI's dialect are told of failures."""

from typing import Final

from ollama_bridge.server.middleware import Dialect
from ollama_bridge.surfaces import openai_errors

OPENAI: Final = Dialect(openai_errors.error_body, openai_errors.error_type)
"""Set as `request[DIALECT]` by every handler of that dialect."""
