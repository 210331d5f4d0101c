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

# A provider that fails before its answer begins is asked again, then the model's fallbacks are.
retry:
  # max_retries: 3             # after the first time. MAX_RETRIES
  # initial_backoff_ms: 1000   # INITIAL_BACKOFF
  # max_backoff_ms: 30000      # MAX_BACKOFF
  # backoff_factor: 2.0        # BACKOFF_FACTOR
  # jitter: 0.1                # part of a wait that is random. JITTER
  # deadline_s: 60             # for all of it

breaker:                       # a model that fails again and again is not asked for a while
  # failures: 5                # in a row; 0: never. CIRCUIT_BREAKER_MAX_REQUESTS
  # open_s: 60                 # CIRCUIT_BREAKER_TIMEOUT

limits:                        # of clients; providers and models have their own
  # key:                       # each client key
  #   requests_per_minute: 60
  #   requests_per_hour: 1000
  #   requests_per_day: 5000
  #   tokens_per_minute: 200000
  # address:                   # each client's IP address
  #   requests_per_minute: 60

budgets:                       # USD; windows end in UTC
  # all:
  #   hourly: 2.00
  #   daily: 10.00
  #   monthly: 100.00
  #   warn_at: 0.8             # part of it at which the log warns
  #   instead: gpt-6-luna      # a cheaper model that answers when there is not enough left; else 429
  # key:                       # each client key
  #   daily: 2.00

cache:                         # answers that are given again to whoever asks the same
  # enabled: false             # CACHE_ENABLED
  # ttl_s: 300                 # CACHE_TTL
  # max_mb: 64
  # store: memory              # memory, disk, or state: in Redis
  # any_temperature: false     # false: only where temperature 0 is asked for
  # share: true                # the same question twice at one moment is asked once

ledger:                        # a line for each call, never what was said: `ollama-bridge usage`
  # keep: true
  # max_days: 400
  # max_mb: 256

routing:                       # `small`, `big`, and `auto:<task>`: models that stand for others
  # auto: true
  # listed: false              # whether clients see them in lists

# clients: {laptop: a-key-of-your-own} # keys as in server.api_keys, with names for the ledger
# state: redis://127.0.0.1:6379/0      # shared by several instances; default: this machine. REDIS_ADDR
# default_max_tokens: 8192     # most tokens of an answer where nothing else says it. DEFAULT_MAX_TOKENS
log_level: info                # debug, info, warning, error. LOG_LEVEL

# A provider whose key is in the environment needs no entry: ANTHROPIC_API_KEY (or CLAUDE_API_KEY), OPENAI_API_KEY,
# GEMINI_API_KEY (or GOOGLE_API_KEY), and those of the vendors in the README: MISTRAL_API_KEY, GROQ_API_KEY, XAI_API_KEY …
# With no provider at all the built-in `demo` answers.
providers:
  # anthropic:
  #   api_key: ${ANTHROPIC_API_KEY}
  # acme:
  #   kind: openai                         # anthropic, openai, google, ollama, demo, or a vendor: README; default: the name
  #   api: chat                            # chat or responses; default: chosen by model
  #   fim: completions                     # gaps in code: fim/completions, completions, or none: by chat; default: by host
  #   base_url: http://127.0.0.1:9000/v1   # openai with /v1, anthropic and google without a version
  #   api_key: none                        # one key, a list of keys, or none
  #   timeout_s: 60                        # seconds of silence, instead of the two above
  #   connect_timeout_s: 10                # seconds to reach it
  #   proxy: false                         # whether HTTPS_PROXY is obeyed
  #   headers: {X-Team: editors}
  #   account: 0123456789abcdef            # of vendors whose address holds it
  #   requests_per_minute: 50              # also requests_per_hour, requests_per_day, tokens_per_minute
  #   requests_per_hour: 1000
  #   requests_per_day: 10000
  #   tokens_per_minute: 400000

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
  #   fallbacks: [gpt-5.5]         # who answers when it cannot, in order
  #   priority: 1                  # which of several is chosen first: the lowest
  #   model_size: BIG              # SMALL or BIG: one of those that `small` or `big` stands for
  #   tasks: [chat, agent]         # for which `auto:<task>` it may be chosen; default: all it can do
  #   requests_per_minute: 20
  #   requests_per_hour: 200
  #   requests_per_day: 1000
  #   tokens_per_minute: 100000
  #   max_request_length: 400000   # characters of a question
  #   price: {input: 3.00, output: 15.00, cached_read: 0.30, cached_write: 3.75}   # USD per million tokens
  #   budget: {daily: 5.00}        # as under budgets
  #   resume: true                 # go on where an answer broke off; default: where that is known to work
  #   prompt_cache: true           # mark the prompt for the provider's cache; default: where it pays
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
