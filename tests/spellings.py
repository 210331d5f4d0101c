"""Names as clients write them: `ollama-api.md` §4.1 and §5."""

LONG = "m" * 80

VALID = {
    "claude-sonnet-4.5": "claude-sonnet-4.5:latest",
    "anthropic/claude-3.5-sonnet": "anthropic/claude-3.5-sonnet:latest",
    "models/gemini-2.5-pro": "models/gemini-2.5-pro:latest",
    "openai:gpt-4o": "openai:gpt-4o",
    "hf.co/u/Model-GGUF:Q4_K_M": "hf.co/u/Model-GGUF:Q4_K_M",
    "_x": "_x:latest",
    "h:80/n/x": "h:80/n/x:latest",
    "http://host/n/x:t": "host/n/x:t",
    "my-cloud-1": "my-cloud-1:latest",
    "MyNs/Copy:V1": "MyNs/Copy:V1",
    f"{'h' * 350}/{'n' * 80}/{LONG}:{'t' * 80}": f"{'h' * 350}/{'n' * 80}/{LONG}:{'t' * 80}",
}
"""As configured, and as lists show it."""

SPELLINGS = {
    "plain": ("plain", "PLAIN", "Plain:LATEST", "library/plain", "LIBRARY/Plain:latest", " plain ", "plain:local",
              "registry.ollama.ai/library/plain", "https://registry.ollama.ai/library/plain:latest", "plain:LOCAL"),
    "MyNs/Copy:V1": ("myns/copy:v1", "MYNS/COPY:V1", "\tMyNs/Copy:V1\n", "registry.ollama.ai/myns/copy:V1"),
}  # fmt: skip
"""What finds the same model."""

UNKNOWN = {
    "nope": "nope:latest",
    "NoPe:1B": "NoPe:1B",
    " ns/Nope ": "ns/Nope:latest",
    "plain:8b": "plain:8b",
    "other/plain": "other/plain:latest",
    "nope:cloud": "nope:cloud",
    "nope:120b-cloud": "nope:120b-cloud",
    "nope:local": "nope:latest",
    "my-cloud": "my-cloud:latest",  # an ordinary name; no model of ours may have it: clients misread it
}
"""Of no model here, and how it is shown."""

INVALID = (
    "a b", "n.s/x", "a:b:c", "-x", ".x", "x:-t", "x+y", "x~y", "x/", "//x", "/x", "x:", "a/b/c/d", "é", "x:é", "模型",
    "x@sha256:" + "0" * 64, "m" * 81, f"x:{'t' * 81}", f"{'n' * 81}/x", f"{'h' * 351}/n/x", "x\x00y", "<script>", '"',
    "https://api.example.com/v1/models/x", "../../etc/passwd", "x" * 5000,
)  # fmt: skip

TWO_SOURCES = ("x:cloud:local", "x:local:cloud", "plain:8b-cloud:local")
"""Both in the cloud and here."""
