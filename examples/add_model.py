"""Models come and go while the bridge runs: add one, hide one, show it again.

    python examples/add_model.py

The registry finds the model that a client means, by name or alias, and passes the request on to who answers. What is
changed here lasts until the process ends; `ollama-bridge models add|disable|enable` change the configuration file.
"""

import asyncio
from contextlib import aclosing

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.demo import DemoBackend
from ollama_bridge.catalog import ModelConfig
from ollama_bridge.chat import ChatRequest, Message, singly
from ollama_bridge.errors import ModelNotFound
from ollama_bridge.events import TextDelta
from ollama_bridge.registry import ModelRegistry


def show(when: str, registry: ModelRegistry) -> None:
    print(f"{when}:")
    for model in registry.models():
        names = ", ".join((model.name, *model.config.aliases))
        print(f"  {names}  {model.context_length} tokens, can {', '.join(model.capabilities)}")


async def ask(registry: ModelRegistry, name: str, question: str) -> str:
    request = ChatRequest(name, (Message("user", question),))
    async with aclosing(singly(registry.chat(request))) as events:
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])


async def main() -> None:
    demo = DemoBackend(ProviderSettings(name="demo", kind="demo"))
    registry = ModelRegistry({"demo": demo})
    registry.add_model(ModelConfig(name="demo", backend="demo"))
    show("At first", registry)

    registry.add_model(ModelConfig(name="fast", backend="demo", aliases=("quick",), context_length=8192))
    show("With one more", registry)
    print("\nquick says:", await ask(registry, "quick", "Who are you?"), "\n")

    registry.disable_model("demo")
    show("With demo disabled", registry)
    try:
        await ask(registry, "demo", "Are you there?")
    except ModelNotFound as exc:
        print(f"  and who asks for it reads: {exc}")

    registry.enable_model("demo")
    show("With demo enabled again", registry)


if __name__ == "__main__":
    asyncio.run(main())
