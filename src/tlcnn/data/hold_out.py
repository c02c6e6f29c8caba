"""Holding out the images of a column's value, such as those of one hospital, as the test split.

index -> images with the value, and the others of their groups -> test
      -> the rest, by group and class                          -> train, val
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tlcnn.config.hold_out import KEY, HoldOut
from tlcnn.data.splits import make_splits
from tlcnn.data.tabular import is_empty, write_cell
from tlcnn.errors import ConfigError, TooFewClasses, did_you_mean, list_names
from tlcnn.text import count

_EVERY_INDEX = ("image_id", "label", "group", "split")
_MOST_VALUES = 12  # that a message names
_NOT_RECORDED = ("unknown", "not recorded")


def list_metadata(table: pd.DataFrame) -> list[str]:
    """Return the columns of an index's table beside those that every index has."""
    return [str(name) for name in table.columns if name not in _EVERY_INDEX]


def write_values(column: pd.Series) -> pd.Series:
    """Return a column as texts: numbers in the shortest way, "" for what is not recorded.

    Example:
        >>> write_values(pd.Series([80.0, 7.5, None, " site A", "unknown"])).tolist()
        ['80', '7.5', '', 'site A', '']
    """

    def write(value: object) -> str:
        text = write_cell(value)
        return "" if is_empty(text) or text.lower() in _NOT_RECORDED else text

    return column.map(write).astype(object)


def read_column(table: pd.DataFrame, column: str, name: str, option: str) -> pd.Series:
    """Return a metadata column of an index's table, as texts.

    Args:
        name: what the dataset is called.
        option: the option that asked for the column, for the message.

    Raises:
        ConfigError: there is no such column; the message names those that there are.
    """
    columns = list_metadata(table)
    if not columns:
        raise ConfigError(
            f"{option}: {name} has no column that says more of its images than class and group. "
            "dataset=table reads such columns from a CSV file"
            + (", and --metadata FILE gives them to --by" if option.startswith("--by") else "")
        )
    if column not in columns:
        raise ConfigError(
            f"{option}: {name} has no column {column}.{did_you_mean(column, columns)} It has "
            f"{list_names(columns, _MOST_VALUES)}"
        )
    return write_values(table[column])


def spell_values(table: pd.DataFrame, column: str, name: str, option: str) -> list[str]:
    """Return the values of a metadata column, sorted, each as the table spells it.

    A number that the table spells in several ways is one value, in its shortest form. Arguments
    and errors are those of `read_column`.

    Example:
        >>> spell_values(pd.DataFrame({"site": ["2.0", "B", "", "2.0"]}), "site", "mine", "")
        ['2.0', 'B']
    """
    values = read_column(table, column, name, option)
    is_text = table[column].map(lambda value: isinstance(value, str))
    spelled = table[column].where(is_text, values).str.strip()
    spellings = spelled[values != ""].groupby(values[values != ""]).unique()
    return sorted(
        str(texts[0] if len(texts) == 1 else value) for value, texts in spellings.items()
    )


def normalize_hold_out(hold_out: HoldOut) -> HoldOut:
    """Return it with every number in its shortest form: equal for equal images.

    Example:
        >>> str(normalize_hold_out(HoldOut("site", ("1", "1.0", "A"))))
        'site:[1,A]'
    """
    return HoldOut(hold_out.column, tuple(sorted({*map(write_cell, hold_out.values)})))


def find_held_out(table: pd.DataFrame, hold_out: HoldOut, name: str) -> np.ndarray:
    """Return which rows have a value that is held out, (N,) bool.

    Raises:
        ConfigError: no such column or value; the message names those that there are.
    """
    values = read_column(table, hold_out.column, name, f"{KEY}={hold_out}")
    counts = values[values != ""].value_counts()
    wanted = normalize_hold_out(hold_out).values
    for value in wanted:
        if value not in counts.index:
            names = list(map(str, counts.index))
            listed = [f"{each} ({count(int(n), 'image')})" for each, n in counts.items()]
            raise ConfigError(
                f"{KEY}={hold_out}: no image has {hold_out.column} {value}."
                f"{did_you_mean(value, names)} There are {list_names(listed, _MOST_VALUES)}"
            )
    return values.isin(wanted).to_numpy()


def split_held_out(
    table: pd.DataFrame,
    hold_out: HoldOut,
    *,
    name: str,
    classes: Sequence[str],
    val_fraction: float,
    seed: int,
) -> np.ndarray:
    """Return the splits of an index's table, (N,) str: what is held out is the test split.

    A group that has a held-out image is tested whole, so that no group straddles splits.

    Args:
        name: what the dataset is called.
        classes: what labels are positions in.
        val_fraction: of the images that are not tested.

    Raises:
        ConfigError: no such column or value.
        TooFewClasses: training or the test would have fewer than two classes.
        DataError: too few groups are left for train and val.
    """
    labels, groups = table["label"].to_numpy(), table["group"]
    is_test = groups.isin(groups[find_held_out(table, hold_out, name)]).to_numpy()
    for is_part, part in ((~is_test, "training"), (is_test, "the test")):
        present = [classes[label] for label in np.unique(labels[is_part])]
        if len(present) < 2:
            left = f"one class only in {part} ({present[0]})" if present else f"nothing for {part}"
            raise TooFewClasses(
                f"{KEY}={hold_out} leaves {left}: {int(is_test.sum()):,} of {len(table):,} images "
                "are tested. At least two classes are needed on either side: hold out another "
                f"value, or several, as in {KEY}={hold_out.column}:[a,b]"
            )
    splits = np.full(len(table), "test", dtype=object)
    splits[~is_test] = make_splits(
        labels[~is_test],
        groups[~is_test].to_numpy(),
        val_fraction=val_fraction,
        test_fraction=0,
        seed=seed,
        n_classes=len(classes),
    )
    return splits


def describe_pulled(table: pd.DataFrame, hold_out: HoldOut, name: str) -> str:
    """Return how many images are tested only because of their group; empty for none."""
    is_held, groups = find_held_out(table, hold_out, name), table["group"]
    is_pulled = groups.isin(groups[is_held]).to_numpy() & ~is_held
    if not is_pulled.any():
        return ""
    n_groups = groups[is_pulled].nunique()
    return (
        f"{count(int(is_pulled.sum()), 'image')} of {count(n_groups, 'group')} without "
        f"{hold_out.words} {'is' if is_pulled.sum() == 1 else 'are'} tested as well, because "
        "other images of the same groups are held out"
    )
