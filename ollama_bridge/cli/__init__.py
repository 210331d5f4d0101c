"""`ollama-bridge …`: nouns with `list` as their default, one file per noun."""

import click

from ollama_bridge import __version__


@click.group()
@click.version_option(__version__, prog_name="ollama-bridge")
def main() -> None:
    """Be Ollama to every IDE and client, and answer from Claude, GPT, Gemini and others."""
