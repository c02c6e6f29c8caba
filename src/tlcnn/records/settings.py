"""Settings of runs as columns: those that tell runs apart, and any that is asked for."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from tlcnn.config.schema import list_cell_columns, list_keys
from tlcnn.errors import ConfigError, did_you_mean, list_names

CELL = tuple(list_cell_columns().values())  # dataset, model, init, k, j, bn


def spread_settings(
    runs: pd.DataFrame, told: Collection[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Make columns of the settings in which runs of one cell's name differ, and list them.

    A setting that a run does not have (imported runs have few) differs from nothing.

    Args:
        told: further settings that are not made columns.
    """
    if "settings" not in runs or runs.empty:
        return runs, []
    names = list(zip(*(runs[column].map(str) for column in CELL), strict=True))
    first: dict[tuple[Any, str], Any] = {}
    varying: dict[str, None] = {}
    for name, settings in zip(names, runs["settings"], strict=True):
        for key, value in settings.items() if isinstance(settings, dict) else ():
            before = first.setdefault((name, key), value)
            if before != value or type(before) is not type(value):
                varying[key] = None
    hidden = {*list_cell_columns(), *list_keys("place"), *list_keys("protocol"), *told}
    kept = [key for key in varying if key not in hidden]
    return add_columns(runs, kept), kept


def add_columns(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return runs with settings as columns; None where a run does not have one."""
    made = {name: get_setting(runs, name) for name in names if name not in runs}
    return pd.concat([runs, pd.DataFrame(made, index=runs.index)], axis=1) if made else runs


def get_setting(runs: pd.DataFrame, name: str) -> pd.Series:
    """Return a setting of every run; lists and objects as text."""
    values = [s.get(name) if isinstance(s, dict) else None for s in runs["settings"]]
    plain = [str(value) if isinstance(value, (list, dict)) else value for value in values]
    return pd.Series(plain, index=runs.index, dtype=object).infer_objects()


def list_columns(runs: pd.DataFrame) -> list[str]:
    """Return the names of all columns and settings, the usual ones first."""
    hidden = {"settings", "problem", "folder"}
    keys = dict.fromkeys(k for s in runs["settings"] if isinstance(s, dict) for k in s)
    return [*(column for column in runs.columns if column not in hidden), *keys]


def check_columns(runs: pd.DataFrame, names: Sequence[str], option: str) -> pd.DataFrame:
    """Return runs that have these columns, of their settings where needed.

    Raises:
        ConfigError: no run has one; names the nearest.
    """
    known = list_columns(runs)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{option} {name}: no run has such a column or setting."
                f"{did_you_mean(name, known)}\nThere are, among others: "
                f"{', '.join(find_near(name, known))}"
            )
    return add_columns(runs, names)


def find_near(name: str, known: Sequence[str], limit: int = 8) -> list[str]:
    """Return the names most like one: those that end in it, then those spelled alike."""
    import difflib

    ends = [one for one in known if one.rpartition(".")[2] == name or one.endswith("/" + name)]
    near = difflib.get_close_matches(name, known, n=6, cutoff=0.4)
    return list(dict.fromkeys([*ends, *near, *known]))[:limit]


def list_values(values: pd.Series, limit: int = 8) -> str:
    """Return the values of a column in words."""
    found = sorted({str(value) for value in values if not pd.isna(value)})
    return list_names(found, limit) or "nothing"
