"""What cells take from the plan of a run, beyond the columns of `read_runs`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PlanFacts:
    """Facts of one plan; empty where its record lacks them.

    Attributes:
        units: names of units 1..L.
        chain: where the transferred weights come from: the first source, then the datasets that
            they were trained on, the nearest last. Of weights that no run of ours made, it is the
            name of the source alone.
        image_digest: digest of the images and their splits.
        classes: names of the K classes.
        n_train, n_test: images.
    """

    units: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    image_digest: str = ""
    classes: tuple[str, ...] = ()
    n_train: int = 0
    n_test: int = 0
    n_epochs: int | None = None
    is_imported: bool = False


def read_facts(folder: str | Path) -> PlanFacts:
    """Return the facts of a run's plan. A value of an unexpected type counts as missing."""
    plan = read_plan(str(folder))
    init = str(plan.get("init", ""))
    sizes = {split: _get(plan, "split_sizes", split) for split in ("train", "test")}
    counts = {
        split: sum(n for n in size.values() if isinstance(n, int)) if isinstance(size, dict) else 0
        for split, size in sizes.items()
    }
    units, n_epochs = plan.get("units"), plan.get("epochs")
    return PlanFacts(
        units=tuple(str(unit["unit"]) for unit in _list_objects(units) if "unit" in unit),
        chain=_make_chain(init, _list_objects(plan.get("ancestry"))),
        image_digest=str(_get(plan, "identity", "dataset", "manifest") or ""),
        classes=tuple(map(str, plan["classes"])) if isinstance(plan.get("classes"), list) else (),
        n_train=counts["train"],
        n_test=counts["test"],
        n_epochs=n_epochs if isinstance(n_epochs, int) else None,
        is_imported=plan.get("imported") is True,
    )


def _make_chain(init: str, ancestors: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the names of a source's chain, from its ancestors, nearest first.

    The network's own weights (`self`) and drawn statistics (`stats`) are no chain.
    """
    if not ancestors or init in ("self", "stats"):
        return (init,)
    first = [ancestors[-1]["source"]] if "source" in ancestors[-1] else []
    datasets = [ancestor.get("dataset", "?") for ancestor in reversed(ancestors)]
    return tuple(map(str, [*first, *datasets]))


def _list_objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def read_plan(folder: str) -> Mapping[str, Any]:
    """Return a run's plan.json as it is; empty where it cannot be read."""
    try:
        plan = json.loads((Path(folder) / "plan.json").read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return plan if isinstance(plan, dict) else {}
