"""A command line as Hydra reads it (flags in front, `++`, quotes), and as a shell does."""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tlcnn.config.schema import describe_type, list_keys

GROUPS = ("dataset", "model", "init", "freeze", "train", "experiment")
OPTIONS = "dataset.options."
MAPPINGS = ("train.unit_lr", "train.augment_ranges")  # whose keys the plan checks
OPEN = ("init.task_dataset.", "init.task_run.", *(f"{key}." for key in MAPPINGS))  # also there
SWEEP = ("-m", "--multirun")
OTHER_CONFIGS = ("-cp", "--config-path", "-cn", "--config-name")
TAKE_A_VALUE = {"-cd", "--config-dir", "-p", "--package", "-c", "--cfg", "-i", "--info"}
COMPLETION = ("-sc", "--shell-completion")  # the words after these look like overrides
_NEW_KEYS = (*OPEN, *(f"{key}=" for key in MAPPINGS))  # what sets keys that no file has


def spell(arguments: Sequence[str]) -> list[str]:
    """Return a command line as Hydra reads it.

    Example:
        >>> spell(["seed=0,1", "-m", "init.task_dataset.root=/data/ham (2)"])
        ['-m', 'seed=0,1', "++init.task_dataset.root='/data/ham (2)'"]
    """
    if any(argument in COMPLETION for argument in arguments):
        return list(arguments)
    flags, overrides = split_flags(arguments)
    quoted = map(quote_text, overrides)
    return flags + [f"++{word}" if word.startswith(_NEW_KEYS) else word for word in quoted]


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags with their values, and the other words, each in order.

    Hydra's parser refuses flags between overrides.

    Example:
        >>> split_flags(["seed=1", "--config-dir", "/mine", "train=quick", "-m"])
        (['--config-dir', '/mine', '-m'], ['seed=1', 'train=quick'])
    """
    flags: list[str] = []
    overrides: list[str] = []
    takes_value = False  # the flag before, e.g. `-cn NAME`
    for argument in arguments:
        is_flag = argument.startswith("-")
        (flags if is_flag or takes_value else overrides).append(argument)
        takes_value = is_flag and argument in (*TAKE_A_VALUE, *OTHER_CONFIGS)
    return flags, overrides


def list_flags(arguments: Sequence[str]) -> list[str]:
    """Return the flags that bring the user's own YAML, as one word each, with absolute paths.

    Example:
        >>> list_flags(["-m", "-cd", "/mine", "seed=0,1"])
        ['--config-dir=/mine']
    """
    flags = []
    for position, word in enumerate(arguments):
        name, has_value, value = word.partition("=")
        if name in ("-cd", "--config-dir"):
            value = value if has_value else "".join(arguments[position + 1 : position + 2])
            flags.append(f"--config-dir={Path(value).absolute()}")
    return flags


def write_override(key: str, value: Any) -> str:
    r"""Return `KEY=VALUE` as Hydra reads it back, whatever characters a text has.

    Example:
        >>> write_override("cache_dir", "/it's/[mine], now")
        "cache_dir='/it\\'s/[mine], now'"
    """
    if isinstance(value, str):
        return f"{key}={quote_value(value)}"
    return f"{key}={'null' if value is None else value}"


def quote_value(text: str) -> str:
    """Return a text in quotes, as Hydra reads it back."""
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + "\\'" * bool(end[2]), text)
    return f"'{escaped}'"


def quote_for_shell(word: str) -> str:
    """Return one word for a shell; in double quotes where it has quotes or a mapping inside.

    Example:
        >>> print(quote_for_shell("site:A"), quote_for_shell("a b"), quote_for_shell("x='a b'"))
        site:A 'a b' "x='a b'"
    """
    is_nested = bool(set("'{") & set(word)) and not set('"$`\\!') & set(word)
    return f'"{word}"' if is_nested else shlex.quote(word)


def write_command(words: Iterable[str]) -> str:
    """Return words as one line for a shell."""
    return " ".join(map(quote_for_shell, words))


def write_shell_word(key: str, value: str) -> str:
    """Return `KEY=VALUE` as one word for a shell, of which the key gets just this text.

    Example:
        >>> print(write_shell_word("dataset.hold_out", "site:A"), write_shell_word("x", "a, (b)"))
        dataset.hold_out=site:A "x='a, (b)'"
    """
    plain, quoted = f"{key}={value}", write_override(key, value)
    return quote_for_shell(plain if _reads_as_text(quote_text(plain), value) else quoted)


def _reads_as_text(argument: str, text: str) -> bool:
    """Return whether Hydra reads just this text as the value of an override."""
    override = _parse(argument)
    is_one = override is not None and not override.is_sweep_override()
    return bool(is_one and override.value() == text)


def _parse(argument: str) -> Any:
    """Return what Hydra's grammar makes of an override; None where it cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None


def quote_text(argument: str) -> str:
    r"""Return a `KEY=VALUE` whose text Hydra reads as it was typed.

    A text is quoted where Hydra's grammar has no such value, or another one than a text. Values
    with commas between them are quoted one by one.

    Example:
        >>> quote_text(r"dataset.options.group_regex=^(patient\d+)_")
        "dataset.options.group_regex='^(patient\\d+)_'"
        >>> quote_text("init.weights=a=1.pt,b.pt"), quote_text("init.run=123e45678901")
        ("init.weights='a=1.pt',b.pt", "init.run='123e45678901'")
    """
    key, has_value, value = argument.partition("=")
    name = key.lstrip("+")
    is_text = is_text_key(name)
    if not has_value or not (is_text or name in GROUPS or name.startswith((OPTIONS, *OPEN))):
        return argument
    if _reads_as_typed(argument, value, is_text):
        return argument
    values = re.split(r",(?![^(\[{]*[)\]}])", value)  # no comma inside brackets
    quoted = (
        text if _reads_as_typed(f"{key}={text}", text, is_text) else quote_value(text)
        for text in values
    )
    return f"{key}={','.join(quoted)}"


def is_text_key(key: str) -> bool:
    """Return whether a key takes any text."""
    return key in list_keys() and describe_type(key).startswith("a text")


def _reads_as_typed(argument: str, value: str, is_text: bool) -> bool:
    """Return whether Hydra reads an override, and as a text where its key takes one."""
    override = _parse(argument)
    if override is None:
        return False
    if not is_text or override.is_sweep_override():
        return True
    read: Any = override.value()
    return read is None or isinstance(read, str) or str(read) == value
