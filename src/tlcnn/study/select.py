"""Which runs a table shows, and which of them make a row: `--where` and `--group`."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlcnn.errors import ConfigError, did_you_mean
from tlcnn.records.settings import check_columns, list_values

_CONDITION = re.compile(r"([^<>=!]+)(>=|<=|!=|=|>|<)(.*)", re.DOTALL)
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_NOTHING = ("none", "null", "")


@dataclass(frozen=True)
class Condition:
    """A column, a sign such as `=` or `>=`, and the values that it is compared with."""

    column: str
    sign: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{','.join(self.values)}"


def parse_condition(word: str, option: str = "--where") -> Condition:
    """Return a condition.

    Raises:
        ConfigError: the word is not a condition.

    Example:
        >>> parse_condition("init=imagenet,random")
        Condition(column='init', sign='=', values=('imagenet', 'random'))
    """
    match = _CONDITION.fullmatch(word)
    if not match:
        raise ConfigError(
            f"{option} {word}: COLUMN=VALUE[,VALUE...] is expected, or COLUMN>=NUMBER (also "
            "<=, >, <, !=), e.g. init=imagenet,random or train.lr>=0.001 (in quotes)"
        )
    column, sign, values = match.groups()
    return Condition(column.strip(), sign, tuple(value.strip() for value in values.split(",")))


def apply_where(runs: pd.DataFrame, words: Sequence[str]) -> pd.DataFrame:
    """Return the runs that fulfil every condition.

    Raises ConfigError for a column or value that no run has.
    """
    for word in words:
        condition = parse_condition(word)
        runs = check_columns(runs, [condition.column], "--where")
        check_values(runs, condition, "--where")
        runs = runs[match_condition(runs[condition.column], condition)]
    return runs


def check_values(runs: pd.DataFrame, condition: Condition, option: str) -> None:
    """Raise ConfigError for a value that no run has."""
    column = runs[condition.column]
    if condition.sign in _ORDER:
        return
    for value in condition.values:
        alone = Condition(condition.column, "=", (value,))
        if not match_condition(column, alone).any():
            texts = sorted({str(item) for item in column if not pd.isna(item)})
            raise ConfigError(
                f"{option} {condition.column}={value}: no run has it; the values are "
                f"{list_values(column)}.{did_you_mean(value, texts)}"
            )


def match_condition(column: pd.Series, condition: Condition) -> pd.Series:
    """Return which values fulfil a condition; a missing value fulfils only `=none`.

    Raises ConfigError where the sign compares numbers, and the column or the value is no number.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    if condition.sign in _ORDER:
        limit = _parse_number(condition.values[0]) if len(condition.values) == 1 else None
        if limit is None or (numbers.isna().all() and column.notna().any()):
            raise ConfigError(
                f"--where {condition}: {condition.sign} compares numbers; {condition.column} is "
                f"{list_values(column)}"
            )
        return _ORDER[condition.sign](numbers, limit)
    texts = column.map(lambda v: str(v).lower() if isinstance(v, bool) else str(v)).astype(object)
    numbers = numbers.mask(texts.isin(("true", "false")))
    hits = pd.Series(False, index=column.index)
    for value in condition.values:
        hits |= texts == (value.lower() if value.lower() in ("true", "false") else value)
        hits |= numbers == _parse_number(value)
        if value.lower() in _NOTHING:
            hits |= column.isna()
    return ~hits if condition.sign == "!=" else hits


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def group_runs(
    runs: pd.DataFrame, columns: Sequence[str]
) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return the runs of each combination of values of some columns; missing values are equal.

    Raises ConfigError for a column that no run has.
    """
    names = list(dict.fromkeys(columns))
    runs = check_columns(runs, names, "--group")
    keys = [runs[name].map(name_value) for name in names]
    parts = [part for _, part in runs.groupby(keys, sort=False)]
    return [({name: part[name].iloc[0] for name in names}, part) for part in parts]


def name_value(value: Any) -> str:
    """Return a text that is equal for equal values, missing ones and 1 and 1.0 among them."""
    if isinstance(value, (bool, str)) or not pd.api.types.is_scalar(value):
        return repr(value)
    return "" if pd.isna(value) else repr(float(value)) if abs(value) < 1e300 else str(value)
