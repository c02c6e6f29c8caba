"""A study's grid blocks as lists of overrides, one list a cell.

A block is a product: `{init: [random, imagenet], seed: range(3)}` is six cells. A value is written
as on the command line, or as a YAML list. What the command line sets replaces the block's value.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tlcnn.errors import ConfigError


def expand(
    arguments: Sequence[str],
    *,
    params: Mapping[str, Any],
    blocks: Sequence[Mapping[str, Any]],
    parse: Callable[[str], Any],
) -> list[tuple[str, ...]]:
    """Return the overrides of every cell, in order, without sweeps.

    Args:
        arguments: `KEY=VALUE` words of the command line, sweeps among them.
        params: values for every block.
        blocks: the study's; none is the same as one empty block.
        parse: Hydra's parser of one word.

    Raises:
        ConfigError: an interval, which is not a list of values.
    """
    given = [parse(word) for word in arguments]
    taken = {override.get_key_element().lstrip("+~") for override in given}
    taken |= {other for pair in _SAME for key, other in (pair, pair[::-1]) if key in taken}
    cells: list[tuple[str, ...]] = []
    for block in blocks or [{}]:
        words = {**params, **block}
        kept = [parse(write_word(k, v)) for k, v in words.items() if k.lstrip("+") not in taken]
        cells += itertools.product(*[_list_words(override) for override in [*kept, *given]])
    return _drop_unread_weights(cells)


def _drop_unread_weights(cells: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Let `init=random,imagenet` cross with `init.weights=FILE`, which only the latter reads."""
    sources = {word for cell in cells for word in cell if word.startswith("init=")}
    if not sources - _READ_NO_FILE:  # a file for nobody is refused with the plan
        return cells
    return [
        tuple(word for word in cell if not word.startswith("init.weights="))
        if _READ_NO_FILE & set(cell)
        else cell
        for cell in cells
    ]


_SAME = (("freeze", "freeze.through"), ("model", "model.name"))  # an option, and its one value
_READ_NO_FILE = {"init=random", "init=self"}


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


_SPECIAL = frozenset(",()[]{}'\"=:\\")  # of Hydra's grammar


def _list_words(override: Any) -> list[str]:
    """Return one word a value of an override: `seed=0,1` -> `seed=0`, `seed=1`."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line} is not a list of values: write them, as in {key}=0.1,0.2, or "
            "range(0,5)."
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
