"""The official `anthropic` package on `/v1/messages`, as Claude Code speaks it."""

import json

from anthropic import Anthropic

from steps import SCHEMA, SECRET, WEATHER, serve, weather

FUNCTION = WEATHER["function"]
TOOL = {
    "name": FUNCTION["name"],
    "description": FUNCTION["description"],
    "input_schema": FUNCTION["parameters"],
}


def _client(url):
    return Anthropic(base_url=url, api_key=SECRET, max_retries=0)


def _asked(model, messages):
    return {"model": model, "max_tokens": 1000, "messages": messages}


def _told(reply):
    usage = reply.usage
    return {"text": _text(reply), "input": usage.input_tokens, "output": usage.output_tokens}


def _text(reply):
    return "".join(block.text for block in reply.content if block.type == "text")


def _user(content):
    return {"role": "user", "content": content}


def list_(url):
    return [model.id for model in _client(url).models.list()]


def chat(url, model, prompt):
    return _told(_client(url).messages.create(**_asked(model, [_user(prompt)])))


def stream(url, model, prompt):
    with _client(url).messages.stream(**_asked(model, [_user(prompt)])) as events:
        pieces = list(events.text_stream)
        return {**_told(events.get_final_message()), "pieces": pieces}


def tools(url, model, prompts, streamed):
    client, messages, calls, texts = _client(url), [], [], []
    for prompt in prompts:
        messages.append(_user(prompt))
        while True:
            answer = _answer(client, {**_asked(model, messages), "tools": [TOOL]}, streamed)
            messages.append(
                {"role": "assistant", "content": [block.model_dump() for block in answer.content]}
            )
            found = [block for block in answer.content if block.type == "tool_use"]
            if not found:
                break
            calls += [[call.name, call.input] for call in found]
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)}
                for call in found
            ]
            messages.append(_user(results))
        texts.append(_text(answer))
    return {"calls": calls, "texts": texts}


def _answer(client, asked, streamed):
    if not streamed:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as events:
        return events.get_final_message()


def image(url, model, prompt, png):
    source = {"type": "base64", "media_type": "image/png", "data": png}
    content = [{"type": "image", "source": source}, {"type": "text", "text": prompt}]
    return _text(_client(url).messages.create(**_asked(model, [_user(content)])))


def schema(url, model, prompt):
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    reply = _client(url).messages.create(**_asked(model, [_user(prompt)]), output_config=wanted)
    return json.loads(_text(reply))


serve("anthropic", list_, chat, stream, tools, image, schema)
