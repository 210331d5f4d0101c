"""`python -m ollama_bridge` is `ollama-bridge`."""

from ollama_bridge.cli import main

if __name__ == "__main__":
    main()
