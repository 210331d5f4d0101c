"""`litellm`, as aider uses it: `ollama_chat/` speaks to /api/chat, and asks /api/show what the model can do."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for prices

import litellm
import litellm.responses.mcp.chat_completions_handler  # else at the first tools, beside its own threads: once it hung

from steps import SCHEMA, WEATHER, serve, weather


def _ask(url, model, messages, **more):
    return litellm.completion(
        model=f"ollama_chat/{model}", api_base=url, messages=messages, num_retries=0, **more
    )


def _user(prompt):
    return [{"role": "user", "content": prompt}]


def show(url, model):
    known = litellm.get_model_info(f"ollama_chat/{model}", api_base=url)
    has = ["completion"] + (["tools"] if known["supports_function_calling"] else [])
    return {"capabilities": has, "context_length": known["max_input_tokens"]}


def chat(url, model, prompt):
    reply = _ask(url, model, _user(prompt))
    usage = reply.usage
    return {
        "text": reply.choices[0].message.content,
        "input": usage.prompt_tokens,
        "output": usage.completion_tokens,
    }


def stream(url, model, prompt):
    deltas = [chunk.choices[0].delta.content for chunk in _ask(url, model, _user(prompt), stream=True)]
    return {"pieces": [delta for delta in deltas if delta]}


def tools(url, model, prompts, streamed):
    messages, calls, texts = [], [], []
    for prompt in prompts:
        messages += _user(prompt)
        while (answer := _answer(url, model, messages, streamed)).tool_calls:
            messages.append(answer.model_dump())
            for call in answer.tool_calls:
                arguments = json.loads(call.function.arguments)
                calls.append([call.function.name, arguments])
                messages.append({"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)})
        messages.append(answer.model_dump())
        texts.append(answer.content)
    return {"calls": calls, "texts": texts}


def _answer(url, model, messages, streamed):
    reply = _ask(url, model, messages, tools=[WEATHER], stream=streamed)
    if streamed:
        reply = litellm.stream_chunk_builder(list(reply), messages=messages)
    return reply.choices[0].message


def image(url, model, prompt, png):
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
    content = [{"type": "text", "text": prompt}, picture]
    return _ask(url, model, [{"role": "user", "content": content}]).choices[0].message.content


def schema(url, model, prompt):
    wanted = {"type": "json_schema", "json_schema": {"name": "number", "schema": SCHEMA}}
    return json.loads(_ask(url, model, _user(prompt), response_format=wanted).choices[0].message.content)


def embed(url, model, texts):
    reply = litellm.embedding(model=f"ollama/{model}", api_base=url, input=texts)
    return [one["embedding"] for one in reply.data]


serve("litellm", show, chat, stream, tools, image, schema, embed)
