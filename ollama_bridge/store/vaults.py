"""Which depot a vault has, by the place that it is to be in."""

from pathlib import Path

from ollama_bridge.sqlitefile import Limits
from ollama_bridge.store.file_depot import FileDepot
from ollama_bridge.store.redis_depot import RedisDepot
from ollama_bridge.vault import Depot, Place, Vault


def vault_at(
    place: Place | None,
    limits: Limits,
    *,
    holds: str,
    prefix: str,
    renewed: bool,
    siblings: bool = False,
    before: Vault | None,
) -> Vault:
    """A vault in that place.

    Args:
        place: None: in memory only.
        limits: How much to keep.
        holds: What is kept, for people, in the plural or with an article: `answers`.
        prefix: Of its names in Redis.
        renewed: Whether age counts from the last use, else from when it was put.
        siblings: Whether other processes of this machine answer the same clients.
        before: The vault so far, which is returned if it is the very same.
    """
    if before is not None and before.limits == limits and before.place == place:
        return before
    depot: Depot | None
    if place is None:
        depot = None
    elif isinstance(place, Path):
        depot = FileDepot(place, limits, holds=holds, siblings=siblings)
    else:
        depot = RedisDepot(place, limits.age_s, renewed=renewed, prefix=prefix)
    return Vault(limits, depot, renewed=renewed)
