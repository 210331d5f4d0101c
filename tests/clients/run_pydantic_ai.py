"""`pydantic-ai` with its Ollama provider: OpenAI's dialect, with tools that the agent itself runs."""

import asyncio
import base64

from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.embeddings import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.providers.ollama import OllamaProvider

from steps import serve, weather


class Number(BaseModel):
    """A number."""

    n: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


def _agent(url, model, **more):
    return Agent(OllamaModel(model, provider=OllamaProvider(base_url=f"{url}/v1")), **more)


def _told(text, usage):
    return {"text": text, "input": usage.input_tokens, "output": usage.output_tokens}


async def _read_all(_, events):
    async for _ in events:
        pass


def chat(url, model, prompt):
    async def ask():
        run = await _agent(url, model).run(prompt)
        return _told(run.output, run.usage)

    return asyncio.run(ask())


def stream(url, model, prompt):
    async def ask():
        async with _agent(url, model).run_stream(prompt) as run:
            pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
            return {**_told("".join(pieces), run.usage), "pieces": pieces}

    return asyncio.run(ask())


def tools(url, model, prompts, streamed):
    async def ask():
        agent, history, texts = _agent(url, model, tools=[get_weather]), [], []
        for prompt in prompts:
            # `run_stream` would take the words beside a call for the answer.
            handler = _read_all if streamed else None
            run = await agent.run(prompt, message_history=history, event_stream_handler=handler)
            texts.append(run.output)
            history = run.all_messages()
        said = [part for turn in history if isinstance(turn, ModelResponse) for part in turn.parts]
        calls = [[part.tool_name, part.args_as_dict()] for part in said if isinstance(part, ToolCallPart)]
        return {"calls": calls, "texts": texts}

    return asyncio.run(ask())


def image(url, model, prompt, png):
    async def ask():
        picture = BinaryContent(base64.b64decode(png), media_type="image/png")
        return (await _agent(url, model).run([prompt, picture])).output

    return asyncio.run(ask())


def schema(url, model, prompt):
    async def ask():
        return (await _agent(url, model, output_type=NativeOutput(Number)).run(prompt)).output.model_dump()

    return asyncio.run(ask())


def embed(url, model, texts):
    async def ask():
        provider = OllamaProvider(base_url=f"{url}/v1")
        result = await Embedder(OpenAIEmbeddingModel(model, provider=provider)).embed_documents(texts)
        return [list(one) for one in result.embeddings]

    return asyncio.run(ask())


serve("pydantic-ai-slim", chat, stream, tools, image, schema, embed)
