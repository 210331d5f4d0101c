"""What the `/v1` surfaces have in common beside the native one's: bodies may be compressed (`ollama-api.md` §7.0)."""

from typing import Final

import zstandard
from aiohttp import web

from ollama_bridge.errors import BodyTooLarge, InvalidRequest
from ollama_bridge.server.connection import read_body

MAX_DECOMPRESSED_BYTES: Final = 20 * 1024 * 1024
"""As the real server's: a small body must not become a huge one."""


async def read_v1_body(request: web.Request) -> bytes:
    """The whole request body; Codex compresses it with zstd.

    Raises:
        BodyTooLarge: It exceeds the server's limit, compressed or not.
        InvalidRequest: It ended early, did not arrive in time, or is no zstd though it says so.
        ClientLeft: The rest of it will never come.
    """
    body = await read_body(request)
    if request.headers.get("Content-Encoding", "").strip().lower() != "zstd":
        return body
    try:
        # One frame, of a size that nobody needs to have announced.
        with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
            plain = reader.read(MAX_DECOMPRESSED_BYTES + 1)
    except zstandard.ZstdError as exc:
        raise InvalidRequest(f"the request body is no zstd: {exc}") from None
    if len(plain) > MAX_DECOMPRESSED_BYTES:
        raise BodyTooLarge(f"the request body is larger than {MAX_DECOMPRESSED_BYTES} bytes decompressed")
    return plain
