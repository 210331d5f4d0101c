"""Tell what kind of image some base64 text holds: clients never say, providers always ask."""

import base64
from typing import Final

UNKNOWN: Final = "application/octet-stream"

_SNIFFED_CHARACTERS: Final = 64  # 48 bytes: more than any signature below needs


def sniff(data: str) -> str:
    """The media type of an image in standard base64, by its first bytes; `UNKNOWN` when none fits."""
    head = base64.b64decode(data[:_SNIFFED_CHARACTERS] + "=" * (-len(data[:_SNIFFED_CHARACTERS]) % 4))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:12] in {b"ftypheic", b"ftypheix", b"ftypmif1"}:
        return "image/heic"
    if head.startswith(b"BM"):
        return "image/bmp"
    return UNKNOWN
