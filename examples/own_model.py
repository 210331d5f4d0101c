"""A lasting model of one's own on top of another, as `ollama create` makes it from a Modelfile.

    pip install ollama
    python examples/own_model.py                                         # from the first model on offer
    python examples/own_model.py http://localhost:11500 claude-sonnet-5-5

The same Modelfile, for `ollama create pirate -f Modelfile`:

    FROM claude-sonnet-5-5
    SYSTEM Talk like a pirate.
    PARAMETER temperature 0.2
    MESSAGE user Good morning!
    MESSAGE assistant Arr, a fine mornin' to ye!

It stands in the bridge's configuration file, and is there after a restart; `ollama rm pirate` takes it out again.
"""

import sys

import ollama

NAME = "pirate"


def main(host: str | None = None, parent: str | None = None) -> None:
    client = ollama.Client(host=host)
    try:
        offered = client.list().models
    except ConnectionError as exc:
        sys.exit(f"{exc}\nIs `ollama-bridge serve` running?")
    parent = parent or next(found.model for found in offered if found.model)

    for progress in client.create(
        NAME,
        from_=parent,
        system="Talk like a pirate.",
        parameters={"temperature": 0.2},
        messages=[
            ollama.Message(role="user", content="Good morning!"),
            ollama.Message(role="assistant", content="Arr, a fine mornin' to ye!"),
        ],
        stream=True,
    ):
        print(f"{NAME}: {progress.status}")
    print(client.show(NAME).parameters)
    print(client.chat(NAME, [{"role": "user", "content": "Where is the treasure?"}]).message.content)
    client.delete(NAME)
    print(f"{NAME}: removed")


if __name__ == "__main__":
    main(*sys.argv[1:])
