"""A study's grid blocks as lists of overrides, one list a cell.

A block is a product: `{init: [random, imagenet], seed: range(3)}` is six cells. A value is written
as on the command line, or as a YAML list. What the command line sets replaces the block's value.
`each` stands for every unit of the model, `all_but_each` for all units but one.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlcnn.config.compose import Composer
from tlcnn.config.hold_out import KEY as HOLD_OUT
from tlcnn.config.schema import EACH, EACH_UNIT, find_each_column, is_each
from tlcnn.config.spelling import write_override
from tlcnn.data.dataset import recall_index
from tlcnn.data.hold_out import spell_values
from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.plan.plan import recall_unit_map

# A key of a group and the one value that the group's files hold: setting either replaces both.
_SYNONYMS = {"freeze": "freeze.through", "model": "model.name"}
_READ_NO_FILE = {"init=random", "init=self"}
_SPECIAL = frozenset(",()[]{}'\"=:\\")  # characters of Hydra's grammar


def expand(
    arguments: Sequence[str],
    *,
    params: Mapping[str, Any],
    blocks: Sequence[Mapping[str, Any]],
    parse: Callable[[str], Any],
    is_range: Callable[[Any], bool] = lambda override: False,
) -> list[tuple[str, ...]]:
    """Return the overrides of every cell, in order, without sweeps.

    `params` are values for every block; no block is the same as one empty block. `parse` is
    Hydra's parser of one word. A word that `is_range` is true of stays as it is: a search takes
    its values from it. Raises ConfigError for another interval, which is no list of values.
    """
    from_user = [parse(word) for word in arguments]
    replaced = {override.get_key_element().lstrip("+~") for override in from_user}
    for group, key in _SYNONYMS.items():
        if group in replaced or key in replaced:
            replaced |= {group, key}
    cells: list[tuple[str, ...]] = []
    for block in blocks or [{}]:
        values = {k: v for k, v in {**params, **block}.items() if k.lstrip("+") not in replaced}
        from_file = [parse(write_word(key, value)) for key, value in values.items()]
        parsed = [*from_file, *from_user]
        cells += itertools.product(
            *([word.input_line] if is_range(word) else _list_words(word) for word in parsed)
        )
    # `init=random,imagenet` crosses with `init.weights=FILE`, which only the latter reads. Where
    # no cell reads the file, it stays, and the plan refuses it.
    sources = {word for cell in cells for word in cell if word.startswith("init=")}
    if not sources - _READ_NO_FILE:
        return cells
    unread = "init.weights="
    return [
        tuple(w for w in cell if not (w.startswith(unread) and _READ_NO_FILE & set(cell)))
        for cell in cells
    ]


def expand_each(cells: Sequence[Sequence[str]], composer: Composer) -> list[tuple[str, ...]]:
    """Replace `each` by every unit of the cell's own model, or value of its dataset's column.

    Example: `init.through=each` becomes `init.through=stem`, `init.through=stage1`, ..., and
    `freeze.units=all_but_each` becomes `freeze.units=all_but_stem`, ...;
    `dataset.hold_out=site:each` becomes `dataset.hold_out='site:A'`, ...

    Raises:
        ConfigError: the model is unknown or cannot be divided into units, or the dataset has no
            such column.
        DataError: the dataset is not there.
    """
    memory = Memory()
    expanded: list[tuple[str, ...]] = []
    for cell in cells:
        choices = [
            _list_each(word, cell, composer, memory) if is_each(word) else [word] for word in cell
        ]
        expanded += itertools.product(*choices)
    return expanded


def _list_each(word: str, cell: Sequence[str], composer: Composer, memory: Memory) -> list[str]:
    """Return the words that a word with `each` stands for in a cell."""
    cfg = composer.compose(cell)
    if word.lstrip("+") in EACH_UNIT:
        units = recall_unit_map(cfg, memory).names
        return [word.removesuffix(EACH) + name for name in units]
    column, data = find_each_column(word), cfg.dataset
    names = spell_values(recall_index(data, memory).table, column, data.name, word)
    return [write_override(HOLD_OUT, f"{column}:{name}") for name in names]


def write_word(key: str, value: Any) -> str:
    """Return a value of a YAML file as it would be written on the command line.

    Example:
        >>> write_word("seed", [0, 1]), write_word("train.views", None)
        ('seed=0,1', 'train.views=null')
    """
    if isinstance(value, (list, tuple)):
        return f"{key}={','.join(write_item(item) for item in value)}"
    return f"{key}={value if isinstance(value, str) else write_item(value)}"


def write_item(value: Any) -> str:
    """Return one value as a word of the command line; text that would mean more is quoted.

    Example:
        >>> write_item(None), write_item("layer3"), write_item("/images, mine")
        ('null', 'layer3', "'/images, mine'")
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    if value is None:
        return "null"
    if isinstance(value, str) and _SPECIAL & set(value) and not value.startswith("${"):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list_words(override: Any) -> list[str]:
    """Return one word a value of an override: `seed=0,1` -> `seed=0`, `seed=1`."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line} is not a list of values: write them, as in {key}=0.1,0.2, or "
            "range(0,5). `tlcnn tune` searches the intervals of settings of training."
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
