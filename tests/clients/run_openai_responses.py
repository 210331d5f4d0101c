"""The official `openai` package on `/v1`: Responses."""

import json

from openai import OpenAI

from steps import SCHEMA, SECRET, WEATHER, serve, weather

TOOL = {"type": "function", **WEATHER["function"]}


def _client(url):
    return OpenAI(base_url=f"{url}/v1", api_key=SECRET, max_retries=0)


def _told(reply):
    return {"text": reply.output_text, "input": reply.usage.input_tokens, "output": reply.usage.output_tokens}


def chat(url, model, prompt):
    return _told(_client(url).responses.create(model=model, input=prompt))


def stream(url, model, prompt):
    with _client(url).responses.stream(model=model, input=prompt) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        return {**_told(events.get_final_response()), "pieces": pieces}


def tools(url, model, prompts, streamed):
    client, items, calls, texts = _client(url), [], [], []
    for prompt in prompts:
        items.append({"role": "user", "content": prompt})
        while True:
            answer = _answer(client, model, items, streamed)
            items += [item.model_dump(exclude_none=True) for item in answer.output]
            found = [item for item in answer.output if item.type == "function_call"]
            if not found:
                break
            for call in found:
                arguments = json.loads(call.arguments)
                calls.append([call.name, arguments])
                items.append(
                    {"type": "function_call_output", "call_id": call.call_id, "output": weather(**arguments)}
                )
        texts.append(answer.output_text)
    return {"calls": calls, "texts": texts}


def _answer(client, model, items, streamed):
    if not streamed:
        return client.responses.create(model=model, input=items, tools=[TOOL])
    with client.responses.stream(model=model, input=items, tools=[TOOL]) as events:
        return events.get_final_response()


def image(url, model, prompt, png):
    picture = {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{png}"}
    content = [{"type": "input_text", "text": prompt}, picture]
    return (
        _client(url).responses.create(model=model, input=[{"role": "user", "content": content}]).output_text
    )


def schema(url, model, prompt):
    wanted = {"format": {"type": "json_schema", "name": "number", "schema": SCHEMA, "strict": True}}
    return json.loads(_client(url).responses.create(model=model, input=prompt, text=wanted).output_text)


serve("openai", chat, stream, tools, image, schema)
