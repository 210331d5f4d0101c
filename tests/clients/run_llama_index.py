"""`llama-index-llms-ollama`: asks /api/show for the context, and sends it back as `num_ctx`."""

import base64

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel

from steps import serve, weather


class Number(BaseModel):
    """A number."""

    n: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


WEATHER = FunctionTool.from_defaults(get_weather)


def _model(url, model):
    return Ollama(model=model, base_url=url)


def _told(reply):
    usage = reply.raw
    return {
        "text": reply.message.content,
        "input": usage["prompt_eval_count"],
        "output": usage["eval_count"],
    }


def show(url, model):
    return {"context_length": _model(url, model).metadata.context_window}


def chat(url, model, prompt):
    return _told(_model(url, model).chat([ChatMessage(role="user", content=prompt)]))


def stream(url, model, prompt):
    parts = list(_model(url, model).stream_chat([ChatMessage(role="user", content=prompt)]))
    return {**_told(parts[-1]), "pieces": [part.delta for part in parts if part.delta]}


def tools(url, model, prompts, streamed):
    llm = _model(url, model)
    messages, calls, texts = [], [], []
    for prompt in prompts:
        messages.append(ChatMessage(role="user", content=prompt))
        while True:
            answer = _answer(llm, messages, streamed)
            messages.append(answer.message)
            found = llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
            if not found:
                break
            for call in found:
                calls.append([call.tool_name, call.tool_kwargs])
                content = str(WEATHER(**call.tool_kwargs))
                messages.append(
                    ChatMessage(
                        role="tool", content=content, additional_kwargs={"tool_call_id": call.tool_id}
                    )
                )
        texts.append(answer.message.content)
    return {"calls": calls, "texts": texts}


def _answer(llm, messages, streamed):
    if not streamed:
        return llm.chat_with_tools([WEATHER], chat_history=messages, allow_parallel_tool_calls=True)
    *_, answer = llm.stream_chat_with_tools([WEATHER], chat_history=messages, allow_parallel_tool_calls=True)
    return answer


def image(url, model, prompt, png):
    picture = ImageBlock(image=base64.b64decode(png))
    message = ChatMessage(role="user", blocks=[TextBlock(text=prompt), picture])
    return _model(url, model).chat([message]).message.content


def schema(url, model, prompt):
    return _model(url, model).structured_predict(Number, PromptTemplate(prompt)).model_dump()


def embed(url, model, texts):
    return OllamaEmbedding(model_name=model, base_url=url).get_text_embedding_batch(texts)


serve("llama-index-llms-ollama", show, chat, stream, tools, image, schema, embed)
