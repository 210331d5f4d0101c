"""ollama-bridge: an Ollama server whose answers come from Claude, GPT, Gemini and others.

The map, from the ground up (an import goes down only; `pyproject.toml` enforces it):

    errors events chat record       who is at fault; what is said; what is asked; what it came to    floor 0
    names media masking templates   model names, images, keys in texts, Go's templates: all pure     floor 0
    native                          what passes unchanged to a real Ollama and back                  floor 0
    history infill presets tokens   repairs conversations; gaps to fill; what models add; estimates  floor 0
    facts allowances opening        rows of the catalogue; what an operator allows; what tells a message floor 0
    repairs  modelconfig            what is done about a refused parameter; what is said of a model  floor 0
    truth  wholefile                whose word on a model counts; files that are written whole       floor 0
    listening                       sockets to listen on                                             floor 0
    catalog catalog_data backends/  known facts about models; one file per provider SDK              floor 1
    lineage                         models made from models                                          floor 1
    prices                          what a call costs                                                floor 1
    lessons  learned                the repairs that models turned out to need: their file, a memory floor 1
    lists  discovered               what providers list, in a file; which models that adds           floor 1
    sqlitefile  store/  vault       files of ours; counts and values that are shared; kept bytes     floor 1
    ledger/  metrics                a row for each call, on disk; sums of all calls                  floor 1
    surfaces/  policies/            one room per client wire; backends that hold backends            floor 2
    registry  config/               which names exist and who answers; what the operator wants       floor 2
    shared                          what outlives a configuration: opened, handed on, closed         floor 3
    live roster                     the models of real Ollamas, which come and go                    floor 3
    gateway                         stacks policies over backends; knows their order                 floor 3
    discovery                       asks providers for their lists                                   floor 3
    server/                         the only floor that speaks HTTP to clients                       floor 4
    logs  sd_notify  siblings       the log; words to systemd; words between workers                 floor 4
    daemon  workers                 start, reload, drain; several daemons on one port                floor 5
    cli/                            `ollama-bridge …`                                                floor 6

Everything passes one narrow waist: a surface decodes a request into one
`chat.ChatRequest`, a `chat.Backend` answers it with `events.Event`s, in the bursts in which they came.
"""

__version__ = "0.1.0"
