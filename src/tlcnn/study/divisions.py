"""Which subgroups a column divides images into: its values, or bands of its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tlcnn.data.tabular import write_cell
from tlcnn.errors import ConfigError, list_names

BANDS = {"age": (40.0, 60.0)}  # columns of numbers -> bounds, where none are given
MOST_VALUES = 30  # subgroups of a column
MOST_NUMBERS = 10  # values of a column of numbers that need no bounds


@dataclass(frozen=True)
class Division:
    """A column that divides images into subgroups.

    Attributes:
        bounds: of bands of numbers, ascending; each is the least value of a band. Empty for a
            column whose values are the subgroups.
    """

    column: str
    bounds: tuple[float, ...] = ()


def parse_divisions(words: Sequence[str]) -> tuple[Division, ...]:
    """Return the columns of `--by sex,age:40,60 localization`.

    Example:
        >>> parse_divisions(["sex,age:30,50.5"])
        (Division(column='sex', bounds=()), Division(column='age', bounds=(30.0, 50.5)))

    Raises:
        ConfigError: bounds that are no ascending numbers, or a column twice.
    """
    divisions: list[Division] = []
    for part in (part.strip() for word in words for part in word.split(",")):
        bound = _parse_number(part)
        if bound is not None and divisions and divisions[-1].bounds:
            divisions[-1] = replace(divisions[-1], bounds=(*divisions[-1].bounds, bound))
            continue
        column, has_bounds, text = part.partition(":")
        first = _parse_number(text)
        if not column or (has_bounds and first is None):
            raise ConfigError(
                f"--by {part}: write columns with commas between them, and bounds of bands after "
                "a colon, as in --by sex,age:40,60"
            )
        divisions.append(Division(column, () if first is None else (first,)))
    columns = [division.column for division in divisions]
    for division in divisions:
        if list(division.bounds) != sorted(set(division.bounds)):
            raise ConfigError(f"--by {division.column}: bounds of bands must ascend")
        if columns.count(division.column) > 1:
            raise ConfigError(f"--by {division.column} is given twice")
    return tuple(divisions)


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def name_subgroups(values: pd.Series, division: Division) -> tuple[np.ndarray, list[str]]:
    """Return the subgroup of each image, (N,) str, "" for none, and all subgroups in order.

    Args:
        values: texts, "" for what is not recorded.

    Example:
        >>> name_subgroups(pd.Series(["39", "60", ""]), Division("age", (40, 60)))[0].tolist()
        ['< 40', '≥ 60', '']

    Raises:
        ConfigError: too many values, or bounds for what is no number.
    """
    texts = values.map(str).to_numpy(dtype=object)
    known = sorted({*texts} - {""})
    numbers = [_parse_number(text) for text in known]
    is_numeric = all(number is not None for number in numbers)
    bounds = division.bounds or (BANDS.get(division.column, ()) if is_numeric else ())
    if bounds and not is_numeric:
        odd = [text for text, number in zip(known, numbers, strict=True) if number is None]
        raise ConfigError(
            f"--by {division.column}: bounds need numbers, and it has {list_names(odd)}"
        )
    most = MOST_NUMBERS if is_numeric else MOST_VALUES
    if not bounds and len(known) > most:
        advice = f"Give bounds of bands, as in --by {division.column}:{known[len(known) // 2]}"
        raise ConfigError(
            f"--by {division.column}: it has {len(known)} values, and {most} subgroups are the "
            f"most. {advice if is_numeric else 'Choose another column'}"
        )
    if not bounds:
        order = sorted(known, key=float) if is_numeric else known
        return texts, order
    ends = [write_cell(bound) for bound in bounds]
    middle = [f"{low} to < {high}" for low, high in zip(ends, ends[1:], strict=False)]
    names = np.array([f"< {ends[0]}", *middle, f"≥ {ends[-1]}", ""], dtype=object)
    is_known = texts != ""
    at = np.full(len(texts), len(names) - 1)
    at[is_known] = np.searchsorted(bounds, texts[is_known].astype(float), side="right")
    return names[at], names[:-1].tolist()
