"""Client wires: bytes to a `ChatRequest`, events to bytes. No I/O, no HTTP library, no SDK."""
