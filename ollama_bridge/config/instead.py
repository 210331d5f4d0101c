"""Whether the cheaper models that budgets name exist, and lead anywhere."""

from collections.abc import Container, Iterator, Sequence

from ollama_bridge.backends import KINDS
from ollama_bridge.catalog import ModelConfig, catalogue_models
from ollama_bridge.config.schema import Config, KeyPath
from ollama_bridge.lineage import key_of, places


def instead_faults(config: Config, models: Sequence[ModelConfig]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with `instead`, and where it stands.

    Args:
        config: What the operator wrote.
        models: All that there will be, with what they inherit; the operator's first.
    """
    known = places(models)
    for who, budget in config.budgets.items():
        if budget.instead and not _exists(budget.instead, known):
            remedy = stands_for_others(budget.instead) or "; name one that is cheaper"
            message = f"budgets.{who}.instead: there is no model '{budget.instead}'{remedy}"
            yield ("budgets", who, "instead"), message
    leads_to: dict[int, int] = {}
    for index, model in enumerate(models):
        if model.budget is None or not model.budget.instead:
            continue
        if (found := known.get(key_of(model.budget.instead))) is not None:
            leads_to[index] = found
        elif not _exists(model.budget.instead, known):
            message = f"model '{model.name}': its budget names '{model.budget.instead}' to answer instead"
            remedy = stands_for_others(model.budget.instead) or "; name one that is cheaper"
            yield _place(index), f"{message}, and there is no such model{remedy}"
    for index in leads_to:
        line = [index]
        while (following := leads_to.get(line[-1])) is not None and following not in line:
            line.append(following)
        if following == index:
            way = " -> ".join(models[at].name for at in (*line, index))
            message = f"model '{models[index].name}': what answers instead leads back to it ({way})"
            yield _place(index), f"{message}; leave one 'instead' out"


def stands_for_others(name: str) -> str:
    """Why `small`, `auto:chat` and the like are no model that could be named here; empty: it is none of them.

    Whom they stand for is chosen among all models, and so may be the very one that does not answer.
    """
    from ollama_bridge.policies.stand_ins import NAMES  # noqa: PLC0415 - who has made no mistake need not wait for it

    is_one = key_of(name) in map(key_of, NAMES)
    return ": that is a name for whoever is chosen for a request; name one model" if is_one else ""


def _exists(name: str, known: Container[str]) -> bool:
    """Also what the catalogue has of providers without a key: one that is taken away is no fault of the file's."""
    offered = (model.name for kind in KINDS for model in catalogue_models(kind, kind))
    return key_of(name) in known or key_of(name) in map(key_of, offered)


def _place(index: int) -> KeyPath:
    return "models", index, "budget", "instead"
