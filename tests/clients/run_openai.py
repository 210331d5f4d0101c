"""The official `openai` package on `/v1`: Chat Completions."""

import json

from openai import OpenAI

from steps import SCHEMA, SECRET, WEATHER, serve, weather


def _client(url):
    return OpenAI(base_url=f"{url}/v1", api_key=SECRET, max_retries=0)


def _told(text, usage):
    return {"text": text, "input": usage.prompt_tokens, "output": usage.completion_tokens}


def list_(url):
    return [model.id for model in _client(url).models.list()]


def chat(url, model, prompt):
    messages = [{"role": "user", "content": prompt}]
    reply = _client(url).chat.completions.create(model=model, messages=messages)
    return _told(reply.choices[0].message.content, reply.usage)


def stream(url, model, prompt):
    chunks = list(
        _client(url).chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    pieces = [delta for delta in deltas if delta]
    return {**_told("".join(pieces), chunks[-1].usage), "pieces": pieces}


def tools(url, model, prompts, streamed):
    client, messages, calls, texts = _client(url), [], [], []
    for prompt in prompts:
        messages.append({"role": "user", "content": prompt})
        while (answer := _answer(client, model, messages, streamed)).tool_calls:
            messages.append(answer.model_dump(exclude_none=True))
            for call in answer.tool_calls:
                arguments = json.loads(call.function.arguments)
                calls.append([call.function.name, arguments])
                messages.append({"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)})
        messages.append(answer.model_dump(exclude_none=True))
        texts.append(answer.content)
    return {"calls": calls, "texts": texts}


def _answer(client, model, messages, streamed):
    asked = {"model": model, "messages": messages, "tools": [WEATHER]}
    if not streamed:
        return client.chat.completions.create(**asked).choices[0].message
    with client.chat.completions.stream(**asked) as events:
        return events.get_final_completion().choices[0].message


def image(url, model, prompt, png):
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": prompt}, picture]}]
    return _client(url).chat.completions.create(model=model, messages=messages).choices[0].message.content


def schema(url, model, prompt):
    wanted = {"type": "json_schema", "json_schema": {"name": "number", "schema": SCHEMA, "strict": True}}
    reply = _client(url).chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], response_format=wanted
    )
    return json.loads(reply.choices[0].message.content)


def embed(url, model, texts):
    return [one.embedding for one in _client(url).embeddings.create(model=model, input=texts).data]


serve("openai", list_, chat, stream, tools, image, schema, embed)
