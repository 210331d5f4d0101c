"""What `config init` writes: every key there is, at its default, with its unit. A test loads it."""

from typing import Final

EXAMPLE: Final = """\
# ollama-bridge. Everything here may be left out; what is commented out shows the default or an example.
# A running daemon follows changes within a second. Text may hold ${NAME} and ${NAME:-default} of the environment,
# and of a file called .env beside this one.
# Rank: command line, environment, this file, default. `ollama-bridge config show --origin` tells which one won.

server:
  host: 127.0.0.1              # OLLAMA_HOST; "" for every interface
  port: 11434                  # PORT, or in OLLAMA_HOST
  # max_body_bytes: 67108864   # larger requests are refused
  # origins: [https://chat.example.com]  # web pages that may ask, beside this machine's. OLLAMA_ORIGINS
  # api_keys: none             # keys of which clients must bring one; needed with a host that others reach. AUTH_TOKEN
  # insecure: false            # let other machines in without a key
  # drain_s: 10                # seconds for running answers to end when the daemon stops

streaming:
  chunk_size: 0                # words a line; 0: as they arrive. STREAMING_CHUNK_SIZE
  delay_ms: 0                  # milliseconds between lines, at most 60000. STREAMING_DELAY_MS
  # heartbeat_s: 15            # seconds of silence until a stream shows that it lives; 0: never
  # first_event_timeout_s: 300 # seconds a model may think before it says anything
  # idle_timeout_s: 300        # seconds of silence within an answer

reasoning:                     # what providers want back with a later turn, and clients cannot carry
  # keep: true                 # false: neither in memory nor on disk
  # max_mb: 64                 # most of it on disk
  # max_days: 30               # since its last use

# default_max_tokens: 8192     # most tokens of an answer where nothing else says it. DEFAULT_MAX_TOKENS
log_level: info                # debug, info, warning, error. LOG_LEVEL

# A provider whose key is in the environment needs no entry: ANTHROPIC_API_KEY (or CLAUDE_API_KEY), OPENAI_API_KEY,
# GEMINI_API_KEY (or GOOGLE_API_KEY). With no provider at all the built-in `demo` answers.
providers:
  # anthropic:
  #   api_key: ${ANTHROPIC_API_KEY}
  # acme:
  #   kind: openai                         # anthropic, openai, google, ollama, demo; default: the entry's name
  #   api: chat                            # chat or responses; default: chosen by model
  #   fim: completions                     # gaps in code: fim/completions, completions, or none: by chat; default: by host
  #   base_url: http://127.0.0.1:9000/v1   # openai with /v1, anthropic and google without a version
  #   api_key: none                        # one key, a list of keys, or none
  #   timeout_s: 60                        # seconds of silence, instead of the two above
  #   connect_timeout_s: 10                # seconds to reach it
  #   proxy: false                         # whether HTTPS_PROXY is obeyed
  #   headers: {X-Team: editors}

# Each provider with a key offers the models of the built-in catalogue. Entries here add models, or change one of
# the catalogue's by its name.
models:
  # - name: claude-sonnet          # what clients see and ask for
  #   backend: anthropic           # a key of providers; or `from`, see below
  #   backend_model: claude-sonnet-5-5
  #   display_name: Claude Sonnet
  #   family: claude
  #   description: The everyday model.
  #   context_length: 200000       # tokens
  #   max_tokens: 64000            # most tokens of an answer
  #   capabilities: [completion, tools, vision, thinking]
  #   enabled: true
  #   aliases: [sonnet]
  #   chunk_size: 0                # words a line, for this model
  #   delay_ms: 0                  # milliseconds between lines, for this model
  # A model of your own, made from another; `ollama create` and `ollama cp` write such entries.
  # - name: mario
  #   from: claude-sonnet          # what this entry does not say is inherited
  #   system: You are Mario.       # of conversations that bring none
  #   parameters: {temperature: 0.2, stop: ["Luigi:"]}
  #   messages: [{role: user, content: Hello}, {role: assistant, content: It's-a me!}]
  #   template: "In one sentence: {{ .Prompt }}"
  #   license: MIT
"""
