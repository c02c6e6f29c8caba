"""Checks of the command line before Hydra reads it: unknown keys, options and words."""

import os
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from tlcnn.config.schema import describe_type, is_each, list_keys
from tlcnn.config.spelling import (
    COMPLETION,
    GROUPS,
    OPEN,
    OPTIONS,
    OTHER_CONFIGS,
    SWEEP,
    is_text_key,
    list_flags,
    quote_for_shell,
    quote_text,
    split_flags,
    write_shell_word,
)
from tlcnn.errors import ConfigError, did_you_mean

_HYDRA = ("hydra.", "hydra/")  # Hydra checks its own keys
_UNTIL = ("until", "up_to", "to", "depth", "layer")
_SYNONYMS = {  # names from other programs, in any group or in one, and the key that each means
    "learning_rate": "train.lr",
    "bs": "train.batch_size",
    "batchsize": "train.batch_size",
    "epoch": "train.epochs",
    "wd": "train.weight_decay",
    "lr_head": "train.head_lr",
    "freeze.layers": "freeze.units",
    "optimiser": "train.optimizer",
    "early_stopping": "train.patience",
    **dict.fromkeys(("arch", "architecture", "backbone", "network"), "model.name"),
    **dict.fromkeys(
        ("checkpoint", "ckpt", "init.file", "init.path", "init.model"), "init.weights"
    ),
    **{f"{group}.{word}": f"{group}.through" for group in ("freeze", "init") for word in _UNTIL},
    **dict.fromkeys(("dataset.path", "dataset.dir", "dataset.folder", "path"), "dataset.root"),
    **dict.fromkeys(("dataset.size", "size", "imgsz"), "dataset.image_size"),
    **dict.fromkeys(("test_size", "test_split", "dataset.test"), "dataset.test_fraction"),
    **dict.fromkeys(("val_size", "val_split", "dataset.val"), "dataset.val_fraction"),
    "dataset.seed": "dataset.split_seed",
    **dict.fromkeys(("out", "output"), "output_dir"),
    "n_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "optim": "train.optimizer",
    "pretrained": "init",
    "img_size": "dataset.image_size",
    "resolution": "dataset.image_size",
    "num_workers": "workers",
    "data": "dataset",
    "data_dir": "dataset.root",
    "batch": "train.batch_size",
    "gpu": "device",
}
_SCHEDULERS = ("scheduler", "lr_scheduler", "lr_schedule", "sched", "lr_decay")
_SCHEDULE = (
    " The learning rate rises in train.warmup_epochs and falls along a cosine to "
    "train.final_lr_fraction of train.lr; there is no other schedule of it."
)
_OPTIONS_MEANT = {  # words for options of init
    **dict.fromkeys(("pretrained", "true", "yes"), "imagenet"),
    **dict.fromkeys(("none", "scratch", "false", "null"), "random"),
}
_FLAGS = (  # Hydra's
    *("help", "hydra-help", "version", "cfg", "resolve", "package", "run", "multirun", "info"),
    *("shell-completion", "config-path", "config-name", "config-dir", "experimental-rerun"),
)
_MOST_LINES = 20  # of an error, which is one screen
_OTHER_VALUES = {  # of a group: what is written where a value is no option of it
    "freeze": "For any other value write freeze.through={0}.",
    "model": "For any other value write model.name={0}.",
    "init": "A unit is init.through={0}; a file is init=checkpoint init.weights={0}.",
    "dataset": "For images of your own write dataset=folder (or dataset=table) dataset.name={0} "
    "dataset.root=FOLDER.",
}


def check_overrides(arguments: Sequence[str], conf_dir: Path) -> None:
    """Refuse `KEY=VALUE` arguments that no run can have.

    Options of a group are left to Hydra when the user brings folders of their own.

    Raises:
        ConfigError: an unknown key or option; the message lists what is allowed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if any(argument in COMPLETION for argument in arguments):
        return
    folders = [conf_dir, *(Path(flag.split("=", 1)[1]) for flag in list_flags(arguments))]
    brings_options = any(
        argument.startswith((*OTHER_CONFIGS, "hydra.searchpath")) for argument in arguments
    )
    parser = OverridesParser.create()
    experiments = [
        a.split("=", 1)[1] for a in arguments if a.lstrip("+").startswith("experiment=")
    ]
    files = [folder / "experiment" / f"{name}.yaml" for name in experiments for folder in folders]
    nodes = [yaml.safe_load(path.read_text()) for path in files if path.is_file()]
    is_sweep = any(argument in SWEEP for argument in arguments) or any(
        (node.get("hydra") or {}).get("mode") == "MULTIRUN" for node in nodes
    )
    dataset_options = _find_dataset_options(arguments, conf_dir)
    for argument in _find_overrides(arguments):
        try:
            override = parser.parse_override(quote_text(argument))
        except HydraException as error:
            raise ConfigError(f"cannot read {argument!r}: {str(error).splitlines()[0]}") from error
        if (override.is_sweep_override() or is_each(argument)) and not is_sweep:
            key, _, text = argument.partition("=")
            may_be_text = is_text_key(key) and not is_each(argument) or key.startswith(OPTIONS)
            hint = f" Or is it one text? Write \"{key}='{text}'\"." if may_be_text else ""
            raise ConfigError(f"{argument} is several values: add -m to run all of them.{hint}")
        _check_key(override, dataset_options)
        _check_range(argument)
        if override.key_or_group in GROUPS and not brings_options and not override.is_delete():
            is_list = override.is_sweep_override()
            values = list(override.sweep_iterator()) if is_list else override.value()
            for value in values if isinstance(values, list) else [values]:
                _check_option(override.key_or_group, value, folders)


def _find_overrides(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the `KEY=VALUE` arguments, refusing words that were meant to be one."""
    flags, overrides = split_flags(arguments)
    for argument in arguments:
        if re.search("[\udc80-\udcff]", argument):  # what Python makes of other bytes
            raise ConfigError(
                f"{os.fsencode(argument)!r} is not UTF-8, so it cannot be recorded. Rename the "
                "file or folder, or name it by a link."
            )
    for flag in flags:
        word, _, value = flag.lstrip("-").partition("=")
        key = _find_likely_key(word.replace("-", "_"))
        if flag.startswith("--") and word not in _FLAGS and key:
            raise ConfigError(f"{flag}: write {key}={value or 'VALUE'}, without dashes.")
    for argument in overrides:
        if "=" not in argument and not argument.startswith("~"):
            key = _find_likely_key(argument)
            example = f"{key}=VALUE" if key else "KEY=VALUE, e.g. freeze=layer3"
            hint = "" if key else " (`tlcnn --help` lists the commands)"
            raise ConfigError(f"{argument!r} sets nothing: write {example}{hint}")
        yield argument


def _find_likely_key(key: str) -> str:
    """Return the key, or the one of a group with this name or another program's, or nothing."""
    keys, leaf = list_keys(), key.split(".")[-1]
    if key in (*GROUPS, *keys):
        return key
    homonyms = [each for each in keys if each.split(".")[-1] == leaf]
    return _SYNONYMS.get(key) or _SYNONYMS.get(leaf) or next(iter(homonyms), "")


def _find_dataset_options(arguments: Sequence[str], conf_dir: Path) -> list[str] | None:
    """Return the options of the chosen dataset's reader; None where its file is not ours."""
    names = [a.split("=", 1)[1] for a in arguments if a.lstrip("+").startswith("dataset=")]
    if any(a.lstrip("+").startswith(("dataset.kind=", "experiment=")) for a in arguments):
        return None
    path = conf_dir / "dataset" / f"{names[-1] if names else 'ham10000'}.yaml"
    if not path.is_file():
        return None
    return list((yaml.safe_load(path.read_text()) or {}).get("options") or {})


def _check_key(override: Any, dataset_options: list[str] | None) -> None:
    key, keys = override.key_or_group, list_keys()
    if key.startswith(OPTIONS):
        name = key.removeprefix(OPTIONS).split(".")[0]
        if dataset_options is not None and name not in dataset_options:
            raise ConfigError(
                f"this dataset has no option '{name}'.{did_you_mean(name, dataset_options)}\n"
                f"Its options: {', '.join(dataset_options) or 'none'}"
            )
        return
    if key in GROUPS or key in keys or key.startswith((*_HYDRA, *OPEN)):
        return
    if any(each.startswith(f"{key}.") for each in keys):
        raise ConfigError(f"{key} is a group of keys: set one of them.\n{_describe_keys(key)}")
    node, leaf, nearest = key.split(".")[0], key.split(".")[-1], _find_likely_key(key)
    if node == "dataset" and leaf in (dataset_options or []):
        nearest = f"{OPTIONS}{leaf}"
    # Within a group only names are compared: all of its keys begin alike.
    in_group = [each for each in keys if each.startswith(f"{node}.")]
    close = _find_close(leaf, in_group) if in_group else did_you_mean(key, [*keys, *GROUPS])
    hint = f" Did you mean '{nearest}'?" if nearest else close
    if leaf in _SCHEDULERS:
        hint = _SCHEDULE
    elif nearest == "init":
        option = _OPTIONS_MEANT.get(str(override.value()).lower(), "imagenet")
        hint = f" Did you mean init={option}?"
    listing = _describe_keys(node if node in GROUPS else None)
    raise ConfigError(f"there is no key '{key}'.{hint}\n{listing}")


def _find_close(leaf: str, keys: Sequence[str]) -> str:
    """Return a hint at the key of a group whose name is the nearest, or nothing."""
    names = {each.split(".")[-1]: each for each in keys}
    close = get_close_matches(leaf, list(names), n=1, cutoff=0.6)
    return f" Did you mean '{names[close[0]]}'?" if close else ""


def _check_range(argument: str) -> None:
    """Refuse `seed=0..4`, naming the spelling of a range of integers."""
    key, _, value = argument.lstrip("+").partition("=")
    ends = re.fullmatch(r"(\d+)(?:\.\.+|-|:)(\d+)", value)
    if ends and key in list_keys() and "integer" in describe_type(key):
        first, last = int(ends[1]), int(ends[2])
        start = f"{first}," if first else ""
        raise ConfigError(f"{argument}: write -m '{key}=range({start}{last + 1})'.")


def _check_option(group: str, value: Any, folders: Sequence[Path]) -> None:
    allowed = sorted({path.stem for f in folders for path in (f / group).glob("*.yaml")})
    if value is None or str(value) in allowed:
        return
    text = str(value)
    meant = _OPTIONS_MEANT.get(text.lower()) if group == "init" else None
    hint = did_you_mean(meant or text, allowed)
    path, root = Path(text), write_shell_word("dataset.root", text)
    other = _OTHER_VALUES[group].format(quote_for_shell(text)) if group in _OTHER_VALUES else ""
    if group == "dataset" and re.search(r"[/\\~]|^\.|\.[a-z]{3,4}$", text):
        hint = f" For images of your own write dataset=folder {root}"
        if path.suffix:
            root = write_shell_word("dataset.root", str(path.parent))
            file = write_shell_word("dataset.options.csv", path.name)
            hint = f" For a table write dataset=table {root} {file}"
    elif group == "model" and text:  # a network that timm has is no misspelling
        hint = f" {other}{hint}"
    elif other and text and not hint:
        hint = f" {other}"
    raise ConfigError(
        f"{group}={value} is not an option.{hint}\n"
        f"Options of {group}: {', '.join(allowed) or 'none yet'}"
    )


def _describe_keys(node: str | None) -> str:
    """Return the keys of a node and what they take; None: those of no node, and the groups."""
    keys = list_keys()
    if node is None:
        top = [key for key in keys if "." not in key]
        groups = ", ".join(GROUPS)
        return f"Keys: {', '.join(top)}\nGroups, each with keys of its own: {groups}"
    inside = [key for key in keys if key.startswith(f"{node}.")]
    if len(inside) > _MOST_LINES:
        return f"Keys of {node} (--help says what they take): {', '.join(inside)}"
    return f"Keys of {node}:\n" + "\n".join(f"  {key}: {describe_type(key)}" for key in inside)
