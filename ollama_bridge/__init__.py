"""ollama-bridge: an Ollama server whose answers come from Claude, GPT, Gemini and others.

The map, from the ground up (an import goes down only; `pyproject.toml` enforces it):

    errors events chat              who is at fault; what a model says; what a client asks       floor 0
    names media masking             model names, images, keys in texts: all pure                 floor 0
    history infill presets          repairs conversations; gaps to fill; what own models add     floor 0
    tokens templates                estimates; the part of Go's templates that has an effect     floor 0
    facts  listening                a row of the catalogue; sockets to listen on                 floor 0
    backends/  catalog              one file per provider SDK; known facts about models          floor 1
    lineage  vault                  models made from models; what providers want back, on disk   floor 1
    ledger/                         a row for each call, on disk, and what the rows add up to    floor 1
    prices                          what a call costs                                            floor 1
    surfaces/  policies/            one room per client wire; backends that hold backends        floor 2
    registry  config/               which names exist and who answers; what the operator wants   floor 2
    gateway                         stacks policies over backends; knows their order             floor 3
    server/                         the only floor that speaks HTTP to clients                   floor 4
    daemon  logs  sd_notify         start, reload, drain                                         floor 5
    workers  siblings               several daemons on one port, and what they say to each other floor 5
    cli/                            `ollama-bridge …`                                            floor 6

Everything passes one narrow waist: a surface decodes a request into one
`chat.ChatRequest`, a `chat.Backend` answers it with `events.Event`s, in the bursts in which they came.
"""

__version__ = "0.1.0"
