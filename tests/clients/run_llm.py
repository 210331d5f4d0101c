"""`llm` with `llm-ollama`: finds models by /api/tags and /api/show, and keeps what it found by digest."""

import base64
import json
import os

import llm

from steps import SCHEMA, serve, weather


def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


def _model(url, model):
    os.environ["OLLAMA_HOST"] = url
    return llm.get_model(f"ollama/{model}")


def _told(reply):
    usage = reply.usage()
    return {"text": reply.text(), "input": usage.input, "output": usage.output}


def list_(url):
    os.environ["OLLAMA_HOST"] = url
    ids = [model.model_id for model in llm.get_models() if model.model_id.startswith("ollama/")]
    return [name.removeprefix("ollama/") for name in ids]


def show(url, model):
    found = _model(url, model)
    known = {
        "tools": found.supports_tools,
        "vision": "image/png" in found.attachment_types,
        "completion": found.can_stream,
    }
    return {"capabilities": [name for name, has in known.items() if has]}


def chat(url, model, prompt):
    return _told(_model(url, model).prompt(prompt, stream=False))


def stream(url, model, prompt):
    reply = _model(url, model).prompt(prompt, stream=True)
    pieces = [piece for piece in reply if piece]
    return {**_told(reply), "pieces": pieces}


def tools(url, model, prompts, streamed):
    conversation = _model(url, model).conversation(tools=[get_weather])
    calls, texts = [], []
    for prompt in prompts:
        chain = conversation.chain(prompt, stream=streamed)
        *_, last = (reply for reply in chain.responses() if _heard(reply, calls))
        texts.append(last.text())
    return {"calls": calls, "texts": texts}


def _heard(reply, calls):
    reply.text()
    calls += [[call.name, call.arguments] for call in reply.tool_calls()]
    return True


def image(url, model, prompt, png):
    picture = llm.Attachment(content=base64.b64decode(png))
    return _model(url, model).prompt(prompt, attachments=[picture], stream=False).text()


def schema(url, model, prompt):
    return json.loads(_model(url, model).prompt(prompt, schema=SCHEMA, stream=False).text())


def embed(url, model, texts):
    os.environ["OLLAMA_HOST"] = url
    return list(llm.get_embedding_model(f"ollama/{model}").embed_multi(texts))


serve("llm-ollama", list_, show, chat, stream, tools, image, schema, embed)
