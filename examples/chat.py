"""The official `ollama` package against the bridge: list the models, then ask one and print as it comes.

    pip install ollama
    python examples/chat.py                                       # asks http://localhost:11434, or OLLAMA_HOST
    python examples/chat.py http://localhost:11500 demo "Hello?"

There is nothing of ollama-bridge in here: every program written for Ollama works the same.
"""

import sys

import ollama


def main(host: str | None = None, model: str | None = None, question: str = "Who are you?") -> None:
    client = ollama.Client(host=host)
    try:
        offered = client.list().models
    except ConnectionError as exc:
        sys.exit(f"{exc}\nIs `ollama-bridge serve` running?")
    print("models:", ", ".join(found.model or "" for found in offered))
    model = model or next((found.model for found in offered if found.model), "demo")

    print(f"{model}: ", end="")
    for part in client.chat(model, [{"role": "user", "content": question}], stream=True):
        print(part.message.content, end="", flush=True)
    print(f"\n({part.prompt_eval_count} tokens asked, {part.eval_count} answered)")


if __name__ == "__main__":
    main(*sys.argv[1:])
