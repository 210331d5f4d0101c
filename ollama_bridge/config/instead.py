"""Whether the cheaper models that budgets name exist, and lead anywhere."""

from collections.abc import Iterator, Sequence

from ollama_bridge.catalog import ModelConfig
from ollama_bridge.config.schema import Config, KeyPath
from ollama_bridge.lineage import key_of, places


def instead_faults(config: Config, models: Sequence[ModelConfig]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with `instead`, and where it stands.

    Args:
        config: What the operator wrote.
        models: All that there will be, with what they inherit; the operator's first.
    """
    known = places(models)
    leads_to: dict[int, int] = {}
    for who, budget in config.budgets.items():
        if budget.instead and key_of(budget.instead) not in known:
            yield (
                ("budgets", who, "instead"),
                f"budgets.{who}.instead: there is no model '{budget.instead}'; name one that is cheaper",
            )
    for index, model in enumerate(models):
        if model.budget is None or not model.budget.instead:
            continue
        found = known.get(key_of(model.budget.instead))
        if found is not None:
            leads_to[index] = found
            continue
        yield (
            _place(index),
            (
                f"model '{model.name}': its budget names '{model.budget.instead}' to answer instead, and there is no such "
                "model; name one that is cheaper"
            ),
        )
    for index in leads_to:
        line = [index]
        while (following := leads_to.get(line[-1])) is not None and following not in line:
            line.append(following)
        if following == index:
            way = " -> ".join(models[at].name for at in (*line, index))
            yield (
                _place(index),
                (
                    f"model '{models[index].name}': what answers instead leads back to it ({way}); leave one "
                    "'instead' out"
                ),
            )


def _place(index: int) -> KeyPath:
    return "models", index, "budget", "instead"
