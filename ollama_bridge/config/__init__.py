"""What the operator wants, and the file it stands in.

fields  sections  schema    values, sections, and the whole configuration, frozen
yaml  faults  example       what a line of the file says; what is wrong with it; a commented file to start from
nearest                     what may have been meant by a name that nobody has
offering                    what providers offer without being told
instead                     whether those who are named to answer instead exist: fallbacks, and cheaper models
file  splice                flags, environment and file become one configuration; a change of some bytes of it
draft  making               a file with changes that nobody sees yet; what `ollama create` and its like do to it
edit                        `models enable`, `models add` and every other change: whole or not at all
"""

from ollama_bridge.config.fields import LogLevel
from ollama_bridge.config.schema import API_KEY_VARIABLES, IMPLICIT_PROVIDERS, Config, KeyPath
from ollama_bridge.config.sections import (
    Breaker,
    Cache,
    Discovery,
    Ledger,
    Provider,
    Reasoning,
    Retry,
    Routing,
    Server,
    Streaming,
)

__all__ = [
    "API_KEY_VARIABLES",
    "IMPLICIT_PROVIDERS",
    "Breaker",
    "Cache",
    "Config",
    "Discovery",
    "KeyPath",
    "Ledger",
    "LogLevel",
    "Provider",
    "Reasoning",
    "Retry",
    "Routing",
    "Server",
    "Streaming",
]
