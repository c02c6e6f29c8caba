"""What a plan.json says, whichever tlcnn wrote it: what older ones lack is derived."""

import re
from typing import Any

from tlcnn.storage import digest_of

RECORD = 1  # version of the files in a run folder; a plan.json without `record` has the first

# Where the identity, which every plan has had, says the same.
_PLACES = {
    "model": ("model", "name"),
    "init": ("init", "source"),
    "k": ("init", "k"),
    "j": ("freeze", "j"),
    "bn": ("freeze", "bn"),
    "seed": ("seed",),
}
_TYPES: dict[str, tuple[type, str]] = {
    **{key: (str, "a text") for key in ("dataset", "model", "init", "bn", "run_id", "cell_id")},
    **{key: (int, "a whole number") for key in ("k", "j", "seed", "epochs")},
    "settings": (dict, "an object"),
    "imported": (bool, "true or false"),
    "classes": (list, "a list"),
    "task": (str, "a text"),
    "name": (str, "a text"),
}


def parse_plan(plan: Any, folder_name: str) -> dict[str, Any]:
    """Return the columns of a run from its plan.json.

    Args:
        plan: the JSON value.
        folder_name: the run folder's name, which tells what a very old plan does not.

    Returns:
        dataset, model, init, k, j, bn, seed, run_id, cell_id, task, imported, planned_epochs,
        settings, and `problem` where the record is of a newer version.

    Raises:
        ValueError: it is no plan.
    """
    if not isinstance(plan, dict):
        raise ValueError(f"plan.json holds a {type(plan).__name__}, an object is expected")
    identity = plan.get("identity")
    identity = identity if isinstance(identity, dict) else {}
    known = {key: _check_type(key, plan.get(key)) for key in _TYPES}
    derived = {key: _check_type(key, _follow(identity, place)) for key, place in _PLACES.items()}
    named = _parse_name(folder_name, known["model"] or derived["model"])
    told = {
        key: next(
            (v for v in (known[key], named.get(key), derived.get(key)) if v is not None), None
        )
        for key in ("dataset", *_PLACES, "run_id")
    }
    settings = known["settings"] or _make_settings(identity)
    row = {key: told[key] for key in ("dataset", *_PLACES)}
    return {
        **row,
        "run_id": told["run_id"],
        "cell_id": known["cell_id"] or _make_cell_id(plan, identity, {**row, **settings}),
        "task": known["task"] or _guess_task(known["classes"]),
        "imported": bool(known["imported"]),
        "planned_epochs": known["epochs"],
        "settings": settings,
        **_check_version(plan.get("record", 1)),
    }


def _check_version(version: Any) -> dict[str, str]:
    if isinstance(version, int) and version <= RECORD:
        return {}
    words = f"written by a newer tlcnn (record {version!r}; this one knows up to {RECORD})"
    return {"problem": f"{words}: what it knows was read"}


def _check_type(key: str, value: Any) -> Any:
    kind, words = _TYPES[key]
    is_number = isinstance(value, bool) and kind is int
    if value is not None and (not isinstance(value, kind) or is_number):
        raise ValueError(f"plan.json has {key}={value!r}; {words} is expected")
    return value


def _follow(value: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _parse_name(name: str, model: str | None) -> dict[str, Any]:
    """Return what `<dataset>-<model>-<init>-k1-j0-s0-<id>` says; the parts may hold dashes."""
    middle = re.escape(model) if model else "[^-]+"
    found = re.fullmatch(rf"(.+?)-({middle})-(.+)-k(\d+)-j(\d+)-s(\d+)-([0-9a-f]{{12}})", name)
    if not found:
        return {}
    dataset, model, init, k, j, seed, run_id = found.groups()
    texts = {"dataset": dataset, "model": model, "init": init, "run_id": run_id}
    return {**texts, "k": int(k), "j": int(j), "seed": int(seed)}


def _make_settings(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a plan from before they were listed: what its identity holds."""
    train, dataset = identity.get("train"), identity.get("dataset")
    settings = {f"train.{k}": v for k, v in train.items()} if isinstance(train, dict) else {}
    if isinstance(dataset, dict):
        kept = {key: dataset[key] for key in ("image_size", "fit") if key in dataset}
        settings |= {f"dataset.{key}": value for key, value in kept.items()}
    return settings


def _make_cell_id(plan: dict[str, Any], identity: dict[str, Any], row: dict[str, Any]) -> str:
    """Return what runs that are equal but for the seed share, as plans now say themselves.

    Of a chain only the settings can tell: its source's digest has a seed of its own.
    """
    if identity and not plan.get("ancestry") and row["init"] == _follow(identity, _PLACES["init"]):
        return digest_of({**identity, "seed": None}, 12)
    return digest_of({**row, "seed": None}, 12)


def _guess_task(classes: list[str] | None) -> str | None:
    return ("binary" if len(classes) == 2 else "multi-class") if classes else None
