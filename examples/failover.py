"""A provider that is overloaded, and one that answers in its place: no key, no network, no daemon.

    python examples/failover.py

Three questions go to the model `best`, whose provider is overloaded at first:

1. It is asked twice, with a wait between (`retry`), and then its fallback `spare` answers.
2. It has failed too often to be asked at all (`breaker`): `spare` answers at once.
3. A moment later one request tries it again, and it answers.

Behind each answer stand who gave it, how often a provider was asked, how long that took, and what it cost. In a
configuration file the same is:

    retry: {max_retries: 1, initial_backoff_ms: 50}
    breaker: {failures: 2, open_s: 0.5}
    providers:
      busy: {kind: "failover:Overloaded"}
      calm: {kind: "failover:Steady"}
    models:
      - {name: best, backend: busy, fallbacks: [spare], price: {input: 3, output: 15}}
      - {name: spare, backend: calm, price: {input: 1, output: 5}}
"""

import asyncio
from contextlib import aclosing

from ollama_bridge import logs
from ollama_bridge.allowances import NUSD_PER_USD
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.chat import ChatRequest, Message, Reply
from ollama_bridge.config import Config
from ollama_bridge.errors import UpstreamBusy
from ollama_bridge.events import Finish, TextDelta, Usage
from ollama_bridge.gateway import Gateway, assemble

CONFIG = {
    "retry": {"max_retries": 1, "initial_backoff_ms": 50},
    "breaker": {"failures": 2, "open_s": 0.5},
    "providers": {
        "busy": {"kind": f"{__name__}:Overloaded"},
        "calm": {"kind": f"{__name__}:Steady"},
    },
    "models": [
        {"name": "best", "backend": "busy", "fallbacks": ["spare"], "price": {"input": 3, "output": 15}},
        {"name": "spare", "backend": "calm", "price": {"input": 1, "output": 5}},
    ],
    "ledger": {"keep": False},  # the record of each call is printed instead
    "reasoning": {"keep": False},
}


class Steady:
    """Always answers; see `custom_backend.py` for what a provider is."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._provider = settings.name

    async def chat(self, request: ChatRequest) -> Reply:
        """A few words, and what they took."""
        yield (TextDelta(f"Here is {request.target.model}."),)
        yield (Finish("stop", Usage(input_tokens=100, output_tokens=20)),)

    async def warm(self) -> None:
        """Nothing to import."""

    async def aclose(self) -> None:
        """Nothing to close."""


class Overloaded(Steady):
    """Refuses the first two requests, as a provider does that has too much to do."""

    refusals = 2

    async def chat(self, request: ChatRequest) -> Reply:
        """Raise what the bridge's own backends raise at HTTP 529; who is busy may be asked again."""
        if self.refusals:
            self.refusals -= 1
            raise UpstreamBusy("overloaded", provider=self._provider, model=request.target.model)
        async with aclosing(super().chat(request)) as reply:
            async for burst in reply:
                yield burst


async def ask(gateway: Gateway, question: str) -> None:
    request = ChatRequest("best", (Message("user", question),))
    said = ""
    async with aclosing(gateway.chat(request)) as reply:
        async for burst in reply:
            said += "".join(event.text for event in burst if isinstance(event, TextDelta))
    record = request.record  # what `ollama-bridge usage` adds up
    cost_usd = (record.cost_nusd or 0) / NUSD_PER_USD
    print(f"{said}  # {record.model}, {record.attempts} asked, {record.total_ms:.0f} ms, {cost_usd:.4f} USD")


async def main() -> None:
    gateway = assemble(Config.model_validate(CONFIG))
    await ask(gateway, "Who is there?")
    await ask(gateway, "And now?")
    await asyncio.sleep(0.6)  # longer than `open_s`
    await ask(gateway, "And later?")
    await gateway.retire()


if __name__ == "__main__":
    logs.configure("info")
    asyncio.run(main())
