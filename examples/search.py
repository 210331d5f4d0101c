"""A search by meaning: texts become vectors, and the nearest to a question is the answer.

    pip install ollama
    python examples/search.py                                            # the first model that embeds
    python examples/search.py http://localhost:11500 text-embedding-3-small "How do I stop it?"

Without a key: `ollama-bridge models add demo-embed --backend demo` brings a model that counts words.
"""

import sys

import ollama

NOTES = (
    "Start the bridge with the command serve.",
    "Stop it with Ctrl-C, or with systemctl stop.",
    "Keys belong in the file called .env beside the configuration.",
    "Web pages may ask only from this machine.",
)


def main(host: str | None = None, model: str | None = None, question: str = "How do I stop it?") -> None:
    client = ollama.Client(host=host)
    try:
        names = [found.model for found in client.list().models if found.model]
    except ConnectionError as exc:
        sys.exit(f"{exc}\nIs `ollama-bridge serve` running?")
    model = model or next(
        (name for name in names if "embedding" in (client.show(name).capabilities or ())), ""
    )
    if not model:
        sys.exit("no model on offer embeds; see the top of this file")

    # Unit vectors: the sum of products is the cosine of the angle between two of them.
    asked, *known = client.embed(model, [question, *NOTES]).embeddings
    nearness = [sum(a * b for a, b in zip(asked, one, strict=True)) for one in known]
    for near, note in sorted(zip(nearness, NOTES, strict=True), reverse=True):
        print(f"{near:.3f}  {note}")


if __name__ == "__main__":
    main(*sys.argv[1:])
