"""The command line, looked at before Hydra sees it: wrong keys, groups and words in one screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlcnn.config import describe_type, list_keys
from tlcnn.errors import ConfigError, did_you_mean

GROUPS = ("dataset", "model", "init", "freeze", "train", "experiment")
FREE = ("dataset.options.", "hydra.", "hydra/")  # checked by the reader, and by Hydra
_OWN_CONFIGS = ("-cd", "--config-dir", "-cp", "--config-path", "-cn", "--config-name")
_COMPLETION = ("-sc", "--shell-completion")  # its words look like overrides
_KEY_OF_GROUP = {
    "freeze": "freeze.through",
    "model": "model.name",
    "init": "init.through",
    "dataset": "dataset.name",
}


def check_overrides(arguments: Sequence[str], conf_dir: Path) -> None:
    """Refuse `KEY=VALUE` arguments that no run can have.

    Options of a group are left to Hydra when the user brings folders of their own.

    Raises:
        ConfigError: an unknown key or option; says what is allowed and what is closest.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if any(argument in _COMPLETION for argument in arguments):
        return
    has_own = any(
        a.startswith(_OWN_CONFIGS) or a.startswith("hydra.searchpath") for a in arguments
    )
    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            continue
        try:
            override = parser.parse_override(argument)
        except HydraException as error:
            raise ConfigError(f"cannot read {argument!r}: {str(error).splitlines()[0]}") from error
        _check_override(override, conf_dir, has_own)


def _check_override(override: Any, conf_dir: Path, has_own: bool) -> None:
    key = override.key_or_group
    if key.startswith(FREE):
        return
    if key in GROUPS:
        if not has_own and not override.is_delete():
            for value in _values(override):
                _check_option(key, value, conf_dir)
        return
    keys = list_keys()
    if key in keys:
        return
    if any(known.startswith(f"{key}.") for known in keys):
        raise ConfigError(f"{key} is a group of keys: set one of them.\n{_list_keys(key)}")
    raise ConfigError(_unknown_key(key, keys))


def _values(override: Any) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_iterator())
    value = override.value()
    return value if isinstance(value, list) else [value]


def _check_option(group: str, value: Any, conf_dir: Path) -> None:
    allowed = sorted(path.stem for path in (conf_dir / group).glob("*.yaml"))
    if value is None or str(value) in allowed:
        return
    key = _KEY_OF_GROUP.get(group)
    spelling = ""
    if key and not did_you_mean(str(value), allowed):
        spelling = f" For any other value write {key}={value}."
    raise ConfigError(
        f"{group}={value} is not an option.{did_you_mean(str(value), allowed)}{spelling}\n"
        f"Options of {group}: {', '.join(allowed) or 'none yet'}"
    )


def _unknown_key(key: str, keys: list[str]) -> str:
    candidates = [*keys, *GROUPS]
    by_leaf = [known for known in keys if known.split(".")[-1] == key.split(".")[-1]]
    hint = f" Did you mean '{by_leaf[0]}'?" if by_leaf else did_you_mean(key, candidates)
    node = key.split(".")[0]
    listing = _list_keys(node if node in GROUPS else None)
    return f"there is no key '{key}'.{hint}\n{listing}"


def _list_keys(node: str | None) -> str:
    keys = list_keys()
    if node is None:
        top = [key for key in keys if "." not in key]
        groups = ", ".join(GROUPS)
        return f"Keys: {', '.join(top)}\nGroups, each with keys of its own: {groups}"
    inside = [f"  {key}: {describe_type(key)}" for key in keys if key.startswith(f"{node}.")]
    return f"Keys of {node}:\n" + "\n".join(inside)
