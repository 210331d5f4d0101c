"""The official `ollama` package."""

import base64
import json

import ollama

from steps import SCHEMA, WEATHER, serve, weather


def _client(url):
    return ollama.Client(host=url, trust_env=False)


def list_(url):
    return [model.model for model in _client(url).list().models]


def show(url, model):
    shown = _client(url).show(model)
    return {
        "capabilities": shown.capabilities,
        "context_length": shown.modelinfo[f"{shown.modelinfo['general.architecture']}.context_length"],
    }


def chat(url, model, prompt):
    reply = _client(url).chat(model, [{"role": "user", "content": prompt}])
    return {"text": reply.message.content, "input": reply.prompt_eval_count, "output": reply.eval_count}


def stream(url, model, prompt):
    parts = list(_client(url).chat(model, [{"role": "user", "content": prompt}], stream=True))
    last = parts[-1]
    pieces = [part.message.content for part in parts if part.message.content]
    return {"pieces": pieces, "input": last.prompt_eval_count, "output": last.eval_count}


def tools(url, model, prompts, streamed):
    client, messages, calls, texts = _client(url), [], [], []
    for prompt in prompts:
        messages.append({"role": "user", "content": prompt})
        while (answer := _answer(client, model, messages, streamed)).tool_calls:
            messages.append(answer)
            for call in answer.tool_calls:
                arguments = dict(call.function.arguments)
                calls.append([call.function.name, arguments])
                messages.append(
                    {"role": "tool", "tool_name": call.function.name, "content": weather(**arguments)}
                )
        messages.append(answer)
        texts.append(answer.content)
    return {"calls": calls, "texts": texts}


def _answer(client, model, messages, streamed):
    if not streamed:
        return client.chat(model, messages, tools=[WEATHER]).message
    parts = [part.message for part in client.chat(model, messages, tools=[WEATHER], stream=True)]
    return ollama.Message(
        role="assistant",
        content="".join(part.content for part in parts),
        tool_calls=[call for part in parts for call in part.tool_calls or ()],
    )


def image(url, model, prompt, png):
    message = {"role": "user", "content": prompt, "images": [base64.b64decode(png)]}
    return _client(url).chat(model, [message]).message.content


def schema(url, model, prompt):
    return json.loads(
        _client(url).chat(model, [{"role": "user", "content": prompt}], format=SCHEMA).message.content
    )


def embed(url, model, texts):
    return _client(url).embed(model, texts).embeddings


serve("ollama", list_, show, chat, stream, tools, image, schema, embed)
