"""Which folders (or values of a column) are splits, and which are classes."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlcnn.config.spelling import quote_for_shell, quote_value, write_shell_word
from tlcnn.data.index import SPLITS
from tlcnn.data.tabular import parse_split
from tlcnn.errors import ConfigError, DataError, list_names
from tlcnn.text import count

ARE_CLASSES = 'Give "dataset.options.splits={}" if the folders are the classes'
UNDERSTOOD = "train, training, val, valid, validation, dev, test, testing, also with _set or _data"
_WORDS = {  # of names that are not understood, and the split that each probably means
    "train": r"train|learn|develop|derivation",
    "val": r"val|tun(?:e|ing)",
    "test": r"test|hold.?out|held|final|eval|unseen|external",
    "": r"fold|split|part|set|subset|cv|phase",
}
_KEYWORDS = ("null", "true", "false", "nan", "inf")  # Hydra reads them as other types than text
_LIKE_A_SPLIT = re.compile(rf"(?:^|[\W_])(?:{'|'.join(_WORDS.values())})", re.I)


def map_splits(names: Sequence[str], splits: Any) -> dict[str, str]:
    """Return the split of each of these names that `dataset.options.splits` mentions.

    Args:
        names: folders, or values of a column.
        splits: a mapping from train, val and test to a name or a list of names. A word for a
            split, such as val, stands for the name that means it, such as Validation.

    Raises:
        ConfigError: no such mapping, a name that is not there, or no train or test.
    """
    example = "{train: [a,b], test: c}"
    if not isinstance(splits, Mapping) or not {"train", "test"} <= set(splits) <= set(SPLITS):
        raise ConfigError(
            f"dataset.options.splits={splits} must say what train, test and perhaps val are: "
            f"{quote_for_shell(f'dataset.options.splits={example}')}"
        )
    mapped: dict[str, str] = {}
    for split, value in splits.items():
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        for name in map(str, value if is_list else [value]):
            fits = [n for n in names if n == name] or [n for n in names if parse_split(n) == name]
            if not fits or any(fit in mapped for fit in fits):
                problem = "is not there" if not fits else "is mentioned twice"
                raise ConfigError(
                    f"dataset.options.splits: {name} {problem}; there are "
                    f"{list_names(sorted(names), 20)}"
                )
            mapped |= {fit: str(split) for fit in fits}
    return mapped


def find_split_folders(
    root: Path, folders: Sequence[str], paths: Sequence[tuple[str, ...]], splits: Any
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the splits of the top folders, none where these are classes; and notes.

    Args:
        folders: the folders in the root.
        paths: the parts of each image's path below the root.
        splits: of `map_splits`; {} where the folders are classes, None: their names decide.

    Raises:
        ConfigError: splits that do not fit the folders.
        DataError: splits beside classes, or folders that are probably splits.
    """
    if splits is not None:
        mapped = map_splits(folders, splits) if splits else {}
        rest = [folder for folder in folders if mapped and folder not in mapped]
        n_left_out = sum(parts[0] in rest for parts in paths)
        _check_classes(root, mapped, paths)
        left_out = f"left out {count(n_left_out, 'image')}"
        note = f"{left_out} in folders that dataset.options.splits does not name"
        return mapped, (f"{note}: {list_names(rest)}",) if rest else ()
    parsed = {folder: parse_split(folder) for folder in folders}
    split_of = {folder: split for folder, split in parsed.items() if split}
    if "train" in split_of.values():
        if rest := [folder for folder in folders if folder not in split_of]:
            is_whole = "test" in split_of.values()
            alone = f"{_spell(split_of)} uses the splits alone. " if is_whole else ""
            raise DataError(
                f"{root} holds the splits {list_names(list(split_of))} beside other folders "
                f"({list_names(rest)}); move these away. {alone}{ARE_CLASSES}"
            )
        _check_classes(root, split_of, paths)
        return split_of, ()
    return {}, _check_repetition(root, folders, paths)


def _check_classes(
    root: Path, split_of: Mapping[str, str], paths: Sequence[tuple[str, ...]]
) -> None:
    """Refuse splits without a class in common, or with a class that is called like its split."""
    inside: dict[str, set[str]] = {}
    for parts in paths:
        if len(parts) > 2 and parts[0] in split_of:
            inside.setdefault(split_of[parts[0]], set()).add(parts[1])
    names_of = {split: {name.casefold() for name in names} for split, names in inside.items()}
    trained = names_of.get("train", set())
    repeated = sorted(
        folder for folder in split_of if folder.casefold() in names_of.get(split_of[folder], ())
    )
    if repeated or any(trained and trained.isdisjoint(names) for names in names_of.values()):
        holdings = "; ".join(f"{s}: {list_names(sorted(inside[s]))}" for s in inside)
        raise DataError(
            f"{root}: the splits {list_names(sorted(split_of))} do not hold the same classes "
            f"({holdings}). If a folder stands between a split and its classes, move the classes "
            f"up, to {root / min(split_of)}/CLASS. {ARE_CLASSES}"
        )


def _check_repetition(
    root: Path, folders: Sequence[str], paths: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """Refuse or note top folders that hold the same folders, as splits do and classes do not."""
    inside = {f: {p[1] for p in paths if p[0] == f and len(p) > 2} for f in folders}
    if len(folders) == 1 and len(inside[folders[0]]) > 1:
        raise DataError(
            f"{root} holds one folder only, {folders[0]}. Are the classes in it? Then give "
            f"{write_shell_word('dataset.root', str(root / folders[0]))}"
        )
    shared = set.intersection(*inside.values()) if len(folders) > 1 else set()
    if len(folders) > 1 and all(inside[f] and _LIKE_A_SPLIT.search(f) for f in folders):
        guess = _guess_splits(sorted(folders))
        _check_classes(root, {f: parse_split(f) or guess[f] for f in folders}, paths)
        raise DataError(
            f"{root}: {list_names(sorted(folders))} hold the same folders "
            f"({list_names(sorted(shared))}), so they are probably splits. Their names are not "
            f"understood ({UNDERSTOOD} are). Say which is which, such as {_spell(guess)}. "
            f"{ARE_CLASSES}"
        )
    if len(shared) < 2:
        return ()
    is_equal = all(names == shared for names in inside.values())
    if not is_equal or any(re.search(r"\d", name) for name in shared):
        return ()
    return (
        f"the classes are {list_names(sorted(folders))}, and each holds the folders "
        f"{list_names(sorted(shared))}. If these are the classes, say what the folders above are, "
        "with dataset.options.splits, or move the images together",
    )


def _guess_splits(folders: Sequence[str]) -> dict[str, str]:
    """Return what folders probably are: by their words, else the last is test, others train."""
    guess = {
        folder: split
        for folder in folders
        for split, words in _WORDS.items()
        if split and re.search(rf"(?:^|[\W_])(?:{words})", folder, re.I)
    }
    if len(guess) == len(folders) and {"train", "test"} <= {*guess.values()}:
        return guess
    return {**dict.fromkeys(folders, "train"), folders[-1]: "test"}


def _spell(splits: Mapping[str, str]) -> str:
    """Return the words on a command line that say these splits."""
    parts = []
    for split in SPLITS:
        names = [quote_name(name) for name in sorted(splits) if splits[name] == split]
        if names:
            parts.append(f"{split}: " + (names[0] if len(names) == 1 else f"[{','.join(names)}]"))
    return quote_for_shell(f"dataset.options.splits={{{', '.join(parts)}}}")


def quote_name(name: str) -> str:
    """Return a name as it stands in a list or mapping on the command line."""
    is_word = re.fullmatch(r"[A-Za-z_][\w-]*", name) and name.lower() not in _KEYWORDS
    return name if is_word else quote_value(name)
