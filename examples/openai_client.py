"""The official `openai` package against the bridge: the same models over `/v1`, streamed, with a tool.

    pip install openai
    python examples/openai_client.py                                            # http://localhost:11434/v1
    python examples/openai_client.py http://localhost:11500 claude-sonnet-5-5 "What time is it in Rome?"

The key may be anything, unless the bridge asks its clients for one (`AUTH_TOKEN`): then it is read from OPENAI_API_KEY.
"""

import json
import os
import sys
from datetime import UTC, datetime, timedelta

import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

CLOCK: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time now, some hours from Greenwich.",
        "parameters": {
            "type": "object",
            "properties": {"hours": {"type": "integer"}},
            "required": ["hours"],
        },
    },
}


def clock(hours: int = 0) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%H:%M")


def main(host: str = "http://localhost:11434", model: str = "", question: str = "Who are you?") -> None:
    client = openai.OpenAI(base_url=f"{host}/v1", api_key=os.environ.get("OPENAI_API_KEY") or "anything")
    try:
        offered = [found.id for found in client.models.list()]
    except openai.APIConnectionError:
        sys.exit(f"no answer from {host}: is `ollama-bridge serve` running?")
    model = model or offered[0]
    talk: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    while True:
        with client.chat.completions.stream(model=model, messages=talk, tools=[CLOCK]) as events:
            for event in events:
                if event.type == "content.delta":
                    print(event.delta, end="", flush=True)
            said = events.get_final_completion().choices[0].message
        if not said.tool_calls:
            break
        talk.append(said.to_dict())  # type: ignore[arg-type]  # the SDK's answers are its questions
        for call in said.tool_calls:
            result = clock(**json.loads(call.function.arguments))
            talk.append({"role": "tool", "tool_call_id": call.id, "content": result})
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
