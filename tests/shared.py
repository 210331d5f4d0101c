"""Where the material lies that is too large for the repository: recordings and golden replies, if it is there."""

from pathlib import Path

SHARED = next(
    (p / "shared" for p in Path(__file__).resolve().parents if (p / "shared" / "spec").is_dir()), None
)
