"""Settings of runs as columns: those that tell runs apart, and any that is asked for."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from tlcnn.config.hold_out import KEY as HOLD_OUT
from tlcnn.config.schema import Config, list_cell_columns, list_keys, list_naming_keys
from tlcnn.errors import ConfigError, did_you_mean, list_names

CELL = tuple(list_cell_columns().values())  # dataset, model, init, k, j, bn
_DEFAULTS = {
    f"{group}.{key}": value
    for group in ("init", "freeze", "train")
    for key, value in asdict(getattr(Config(), group)).items()
}


def spread_settings(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Make columns of the settings that name a cell or differ in cells of one name; list them."""
    if "settings" not in runs or runs.empty:
        return runs, []
    names = list(zip(*(runs[column].map(str) for column in CELL), strict=True))
    settings = [value if isinstance(value, dict) else {} for value in runs["settings"]]
    shown = [*list_naming(settings), *list_varying(names, settings), *list_held_out(settings)]
    varying = list(dict.fromkeys(shown))
    return add_columns(runs, varying), varying


def add_later_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run of ours, with keys that are later than its record.

    A key that is added to the schema has a default that means "as before". A record without a
    learning rate is not of a whole configuration, and stays as it is.
    """
    return {**(_DEFAULTS if "train.lr" in settings else {}), **settings}


def is_default(key: str, value: Any) -> bool:
    """Return whether a setting, as `write_value` returns it, has the default of the schema."""
    return bool(value == write_value(_DEFAULTS.get(key)))


def list_naming(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys beside the columns of a cell that name some of these runs or cells.

    They are those that have another value than their default, such as `freeze.units`.
    """
    values = [*settings]
    defaults = list_naming_keys().items()
    return [
        key for key, default in defaults if any(v.get(key, default) != default for v in values)
    ]


def list_held_out(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the key of what is held out, if any run holds something out.

    It is shown even where all runs have one value, because it says what they were tested on.
    """
    return [HOLD_OUT] if any(values.get(HOLD_OUT) for values in settings) else []


def list_varying(names: Sequence[object], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which runs (or cells) of one name differ.

    A setting that a run does not have (imported runs have few) differs from nothing. Places, and
    settings that the columns of a cell show already, are not listed.

    Args:
        names: a hashable name of each run.
        settings: the settings of each run.
    """
    first: dict[tuple[object, str], Any] = {}
    varying: dict[str, None] = {}
    for name, values in zip(names, settings, strict=True):
        for key, value in values.items():
            before = first.setdefault((name, key), value)
            if before != value or type(before) is not type(value):
                varying[key] = None
    hidden = {*list_cell_columns(), *list_keys("place"), *list_keys("protocol")}
    return [key for key in varying if key not in hidden]


def add_columns(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return runs with settings as columns: lists and objects as text, None for none."""
    columns = {}
    for name in names:
        if name not in runs:
            values = [s.get(name) if isinstance(s, dict) else None for s in runs["settings"]]
            plain = [write_value(value) for value in values]
            columns[name] = pd.Series(plain, runs.index, dtype=object).infer_objects()
    return pd.concat([runs, pd.DataFrame(columns, index=runs.index)], axis=1) if columns else runs


def write_value(value: Any) -> Any:
    """Return a setting's value, lists and objects as text."""
    return str(value) if isinstance(value, (list, dict)) else value


def check_columns(runs: pd.DataFrame, names: Sequence[str], option: str) -> pd.DataFrame:
    """Return runs that have these columns, of their settings where needed.

    Raises:
        ConfigError: no run has one; names the nearest.
    """
    keys = dict.fromkeys(k for s in runs["settings"] if isinstance(s, dict) for k in s)
    columns = [
        *(c for c in runs.columns if c not in ("settings", "plan", "problem", "folder")),
        *keys,
    ]
    for name in names:
        if name not in columns:
            raise ConfigError(
                f"{option} {name}: no run has such a column or setting."
                f"{did_you_mean(name, columns)}\nThere are, among others: "
                f"{', '.join(find_near(name, columns))}"
            )
    return add_columns(runs, names)


def find_near(name: str, names: Sequence[str], limit: int = 8) -> list[str]:
    """Return the names most like one: those that end in it, then those spelled alike."""
    ends = [n for n in names if n.rpartition(".")[2] == name or n.endswith("/" + name)]
    near = difflib.get_close_matches(name, names, n=6, cutoff=0.4)
    return list(dict.fromkeys([*ends, *near, *names]))[:limit]


def list_values(values: pd.Series, limit: int = 8) -> str:
    """Return the values of a column in words."""
    return list_names(sorted({str(v) for v in values if not pd.isna(v)}), limit) or "nothing"
