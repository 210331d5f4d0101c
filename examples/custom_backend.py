"""A backend of one's own, in one file: a model that says it back LOUDLY.

    python examples/custom_backend.py          # or with a port: python examples/custom_backend.py 11500
    curl http://localhost:11434/api/chat -d '{"model": "shout", "messages": [{"role": "user", "content": "hello"}]}'

A provider's `kind` may be the `module:Class` of any class like the one below. From a configuration file, with this
folder in PYTHONPATH:

    providers:
      shout: {kind: "custom_backend:ShoutBackend"}
    models:
      - {name: shout, backend: shout, capabilities: [completion]}
"""

import sys

from ollama_bridge import daemon, logs
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.catalog import ModelConfig
from ollama_bridge.chat import ChatRequest, Reply
from ollama_bridge.config import Config, Provider, Server
from ollama_bridge.errors import ConfigError
from ollama_bridge.events import Finish, TextDelta, Usage


class ShoutBackend:
    """Implements `ollama_bridge.chat.Provider`; there is no class to inherit from.

    Args:
        settings: The provider's entry in the configuration: its name, key, base_url, headers.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self._provider = settings.name

    async def chat(self, request: ChatRequest) -> Reply:
        """Text as it comes, then exactly one `Finish`; raise an `UpstreamError` if it cannot be done."""
        words = request.messages[-1].content.upper().split() if request.messages else []
        for word in words:
            yield (TextDelta(f"{word} "),)
        yield (TextDelta("!!!"),)
        asked = sum(len(message.content.split()) for message in request.messages)
        yield (Finish("stop", Usage(input_tokens=asked, output_tokens=len(words) + 1)),)

    async def warm(self) -> None:
        """Called once in the background when the daemon starts: import, connect."""

    async def aclose(self) -> None:
        """Called when the provider is no longer needed: close connections."""


def main() -> None:
    config = Config(
        server=Server(port=int(sys.argv[1]) if len(sys.argv) > 1 else 11434),
        providers={"shout": Provider(kind=f"{__name__}:ShoutBackend")},
        models=(ModelConfig(name="shout", backend="shout", capabilities=("completion",)),),
    )
    logs.configure(config.log_level)
    try:
        daemon.serve(lambda: config, watched=())
    except ConfigError as exc:  # the port is taken
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
