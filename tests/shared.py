"""Where the recordings and specifications beside the project are, if they are."""

from pathlib import Path

SHARED = next(
    (p / "shared" for p in Path(__file__).resolve().parents if (p / "shared" / "spec").is_dir()), None
)
