"""Checks of the command line before Hydra reads it: unknown keys, options and words."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tlcnn.config.schema import EACH_UNIT, describe_type, list_keys
from tlcnn.errors import ConfigError, did_you_mean

GROUPS = ("dataset", "model", "init", "freeze", "train", "experiment")
_HYDRA = ("hydra.", "hydra/")  # Hydra checks its own keys
_OPTIONS = "dataset.options."
_MAPPINGS = ("train.unit_lr", "train.augment_ranges")  # whose keys the plan checks
_OPEN = ("init.task_dataset.", "init.task_run.", *(f"{key}." for key in _MAPPINGS))
_NEW_KEYS = (*_OPEN, *(f"{key}=" for key in _MAPPINGS))  # what sets keys that no file has
_SYNONYMS = {  # names from other programs, and the key that each means
    "learning_rate": "train.lr",
    "bs": "train.batch_size",
    "n_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "optim": "train.optimizer",
    "pretrained": "init",
    "img_size": "dataset.image_size",
    "resolution": "dataset.image_size",
    "num_workers": "workers",
    "data": "dataset",
    "data_dir": "dataset.root",
}
_SWEEP = ("-m", "--multirun")
_OTHER_CONFIGS = ("-cp", "--config-path", "-cn", "--config-name")
_TAKE_A_VALUE = {"-cd", "--config-dir", "-p", "--package", "-c", "--cfg", "-i", "--info"}
_COMPLETION = ("-sc", "--shell-completion")  # the words after these look like overrides
_MOST_LINES = 20  # of an error, which is one screen
_OTHER_VALUES = {  # of a group: what is written where a value is no option of it
    "freeze": "For any other value write freeze.through={0}.",
    "model": "For any other value write model.name={0}.",
    "init": "A unit is init.through={0}; a file is init=checkpoint init.weights={0}.",
    "dataset": "For images of your own write dataset=folder (or dataset=table) dataset.name={0} "
    "dataset.root=FOLDER.",
}


def spell(arguments: Sequence[str]) -> list[str]:
    """Return a command line as Hydra wants it written: -m in front, new keys with `++`.

    Example:
        >>> spell(["seed=0,1", "-m", "init.task_dataset.root=/data/ham"])
        ['-m', 'seed=0,1', '++init.task_dataset.root=/data/ham']
    """
    sweeps = [word for word in arguments if word in _SWEEP]
    rest = [word for word in arguments if word not in _SWEEP]  # argparse needs -m in front
    return sweeps + [f"++{word}" if word.startswith(_NEW_KEYS) else word for word in rest]


def check_overrides(arguments: Sequence[str], conf_dir: Path) -> None:
    """Refuse `KEY=VALUE` arguments that no run can have.

    Options of a group are left to Hydra when the user brings folders of their own.

    Raises:
        ConfigError: an unknown key or option; the message lists what is allowed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if any(argument in _COMPLETION for argument in arguments):
        return
    folders = [conf_dir, *(Path(flag.split("=", 1)[1]) for flag in list_flags(arguments))]
    brings_options = any(
        a.startswith(_OTHER_CONFIGS) or a.startswith("hydra.searchpath") for a in arguments
    )
    parser = OverridesParser.create()
    experiments = [
        a.split("=", 1)[1] for a in arguments if a.lstrip("+").startswith("experiment=")
    ]
    files = [folder / "experiment" / f"{name}.yaml" for name in experiments for folder in folders]
    nodes = [yaml.safe_load(path.read_text()) for path in files if path.is_file()]
    is_sweep = any(argument in _SWEEP for argument in arguments) or any(
        (node.get("hydra") or {}).get("mode") == "MULTIRUN" for node in nodes
    )
    dataset_options = _find_dataset_options(arguments, conf_dir)
    for argument in _find_overrides(arguments):
        try:
            override = parser.parse_override(argument)
        except HydraException as error:
            raise ConfigError(f"cannot read {argument!r}: {str(error).splitlines()[0]}") from error
        is_each = argument.lstrip("+") in EACH_UNIT
        if (override.is_sweep_override() or is_each) and not is_sweep:
            raise ConfigError(f"{argument} is several values: add -m to run all of them.")
        _check_key(override, dataset_options)
        if override.key_or_group in GROUPS and not brings_options and not override.is_delete():
            is_list = override.is_sweep_override()
            values = list(override.sweep_iterator()) if is_list else override.value()
            for value in values if isinstance(values, list) else [values]:
                _check_option(override.key_or_group, value, folders)


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


def _find_overrides(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the `KEY=VALUE` arguments, refusing words that were meant to be one."""
    takes_value = False  # the argument before, e.g. `-cn NAME`
    for argument in arguments:
        word, _, value = argument.lstrip("-").partition("=")
        key = word.replace("-", "_")
        if argument.startswith("--") and key in (*GROUPS, *list_keys()):
            raise ConfigError(f"{argument}: write {key}={value or 'VALUE'}, without dashes.")
        if argument.startswith("-"):
            takes_value = argument in (*_TAKE_A_VALUE, *_OTHER_CONFIGS)
            continue
        if not takes_value:
            if "=" not in argument and not argument.startswith("~"):
                example = "KEY=VALUE, e.g. freeze=layer3 (`tlcnn --help` lists the commands)"
                if argument in (*GROUPS, *list_keys()):
                    example = f"{argument}=VALUE"
                raise ConfigError(f"{argument!r} sets nothing: write {example}")
            yield argument
        takes_value = False


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
    if key.startswith(_OPTIONS):
        name = key.removeprefix(_OPTIONS).split(".")[0]
        if dataset_options is not None and name not in dataset_options:
            raise ConfigError(
                f"this dataset has no option '{name}'.{did_you_mean(name, dataset_options)}\n"
                f"Its options: {', '.join(dataset_options) or 'none'}"
            )
        return
    if key in GROUPS or key in keys or key.startswith((*_HYDRA, *_OPEN)):
        return
    if any(each.startswith(f"{key}.") for each in keys):
        raise ConfigError(f"{key} is a group of keys: set one of them.\n{_describe_keys(key)}")
    node, leaf = key.split(".")[0], key.split(".")[-1]
    homonyms = [each for each in keys if each.split(".")[-1] == leaf]
    nearest = _SYNONYMS.get(leaf) or next(iter(homonyms), None)
    hint = f" Did you mean '{nearest}'?" if nearest else did_you_mean(key, [*keys, *GROUPS])
    listing = _describe_keys(node if node in GROUPS else None)
    raise ConfigError(f"there is no key '{key}'.{hint}\n{listing}")


def _check_option(group: str, value: Any, folders: Sequence[Path]) -> None:
    allowed = sorted({path.stem for f in folders for path in (f / group).glob("*.yaml")})
    if value is None or str(value) in allowed:
        return
    hint = did_you_mean(str(value), allowed)
    if group in _OTHER_VALUES and value != "" and not hint:
        hint = f" {_OTHER_VALUES[group].format(value)}"
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
