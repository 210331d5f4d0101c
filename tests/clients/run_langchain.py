"""`langchain-ollama`: every chat streams underneath, tool results carry neither id nor name."""

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings

from steps import SCHEMA, serve, weather


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


def _model(url, model, **more):
    return ChatOllama(model=model, base_url=url, client_kwargs={"trust_env": False}, **more)


def _told(message):
    return {
        "text": message.content,
        "input": message.usage_metadata["input_tokens"],
        "output": message.usage_metadata["output_tokens"],
    }


def list_(url):
    _model(url, "m", validate_model_on_init=True)  # looks for it in /api/tags, and raises
    return ["m:latest"]


def chat(url, model, prompt):
    return _told(_model(url, model).invoke(prompt))


def stream(url, model, prompt):
    parts = list(_model(url, model).stream(prompt))
    whole = parts[0]
    for part in parts[1:]:
        whole += part
    return {**_told(whole), "pieces": [part.content for part in parts if part.content]}


def tools(url, model, prompts, streamed):
    asked = _model(url, model).bind_tools([get_weather])
    messages, calls, texts = [], [], []
    for prompt in prompts:
        messages.append(HumanMessage(prompt))
        while (answer := _answer(asked, messages, streamed)).tool_calls:
            messages.append(answer)
            for call in answer.tool_calls:
                calls.append([call["name"], call["args"]])
                messages.append(get_weather.invoke(call))
                assert isinstance(messages[-1], ToolMessage)
        messages.append(answer)
        texts.append(answer.content)
    return {"calls": calls, "texts": texts}


def _answer(asked, messages, streamed) -> AIMessage:
    if not streamed:
        return asked.invoke(messages)
    parts = list(asked.stream(messages))
    whole = parts[0]
    for part in parts[1:]:
        whole += part
    return whole


def image(url, model, prompt, png):
    picture = {"type": "image_url", "image_url": f"data:image/png;base64,{png}"}
    return (
        _model(url, model).invoke([HumanMessage([{"type": "text", "text": prompt}, picture])]).content.strip()
    )


def schema(url, model, prompt):
    described = {"title": "Number", "description": "A number", **SCHEMA}
    return _model(url, model).with_structured_output(described, method="json_schema").invoke(prompt)


def embed(url, model, texts):
    return OllamaEmbeddings(model=model, base_url=url, client_kwargs={"trust_env": False}).embed_documents(
        texts
    )


serve("langchain-ollama", list_, chat, stream, tools, image, schema, embed)
