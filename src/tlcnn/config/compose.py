"""Command-line words to a typed configuration, through Hydra."""

import copy
import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from tlcnn.config.schema import Config, find_conf_dir, list_keys
from tlcnn.config.spelling import spell, write_override
from tlcnn.memory import Memory


@functools.cache  # from Hydra 1.4 on, a second schema of this name is a mistake
def register_schema() -> None:
    """Tell Hydra the types behind every YAML, and what its help says of the keys."""
    ConfigStore.instance().store(name="schema", node=Config)
    is_new = _find_release("omegaconf") >= (2, 4)
    name = "register_resolver" if is_new else "register_new_resolver"
    getattr(OmegaConf, name)("tlcnn.keys", _write_help, replace=True)


def _find_release(package: str) -> tuple[int, int]:
    """Return the first two numbers of a package's version."""
    major, minor = version(package).split(".")[:2]
    return int(major), int(minor)


def _write_help(_root_: DictConfig) -> str:
    from tlcnn.config.meaning import describe_keys

    return describe_keys(_root_).replace("$", "$$")  # Hydra's template has variables


def make_hydra_options() -> dict[str, Any]:
    """Return the options that Hydra 1.3 needs and 1.4 no longer has."""
    return {"version_base": "1.3"} if _find_release("hydra-core") < (1, 4) else {}


def compose_config(overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that a command line means, without running it.

    Raises:
        ConfigError: an unknown key, option or type.

    Example:
        >>> compose_config(["model=resnet50", "train.epochs=3"]).model.name
        'resnet50'
    """
    from tlcnn.config.overrides import check_overrides

    check_overrides(overrides, find_conf_dir())
    return Composer().compose(spell(overrides))


def make_config(node: DictConfig) -> Config:
    """Return a composed configuration as an object; keys inside options are texts, as in JSON."""
    config: Any = OmegaConf.to_object(node)
    config.dataset.options = _name_keys(config.dataset.options)
    config.init.task_dataset = _name_keys(config.init.task_dataset)
    return cast("Config", config)


def _name_keys(value: Any) -> Any:
    """Return a value in which the keys of all mappings are texts.

    Example:
        >>> _name_keys({"label_values": {-1.0: "drop"}})
        {'label_values': {'-1.0': 'drop'}}
    """
    if isinstance(value, dict):
        return {str(key): _name_keys(each) for key, each in value.items()}
    return value


def make_memory(flags: Sequence[str] = ()) -> Memory:
    """Return the memory of the runs of one command line: it holds their composer."""
    memory = Memory()
    memory.recall("composer", "", lambda: Composer(flags))
    return memory


class Composer:
    """Composes many command lines of one program and reads the files once per set of options.

    Hydra applies `KEY=VALUE` after every file. So the cells of a grid that choose the same options
    are copies of one composition of files, each with its own values. `flags` are of `list_flags`.
    """

    def __init__(self, flags: Sequence[str] = ()) -> None:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        register_schema()
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Any] = {}
        self._composed: dict[tuple[str, ...], Any] = {}
        self._paths = [flag.split("=", 1)[1] for flag in flags]

    def compose(self, overrides: Sequence[str]) -> Config:
        """Return the configuration of one run. Raises Hydra's and OmegaConf's errors."""
        from omegaconf.errors import OmegaConfBaseException

        parsed = [self.parse(text) for text in overrides]
        choices = tuple(o.input_line for o in parsed if not _is_value(o))
        if choices not in self._composed:
            self._composed[choices] = self._compose_files(choices)
        node = copy.deepcopy(self._composed[choices])
        try:
            for override in filter(_is_value, parsed):
                key, add = override.key_or_group, override.is_force_add()
                OmegaConf.update(node, key, override.value(), merge=True, force_add=add)
        except OmegaConfBaseException:
            node = self._compose_files(overrides)  # raises Hydra's own error
        return make_config(node)

    def parse(self, text: str) -> Any:
        """Return Hydra's reading of one `KEY=VALUE`."""
        if text not in self._parsed:
            (self._parsed[text],) = self._parser.parse_overrides([text])
        return self._parsed[text]

    def list_options(self, group: str) -> list[str]:
        """Return the options of a group: ours, and those of the user's own folders."""
        folders = [find_conf_dir(), *map(Path, self._paths)]
        return sorted({path.stem for f in folders for path in (f / group).glob("*.yaml")})

    def _compose_files(self, choices: Sequence[str]) -> Any:
        from hydra import compose, initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra

        folders = ",".join(write_override("", f"file://{path}")[1:] for path in self._paths)
        search_path = [f"hydra.searchpath=[{folders}]"] if self._paths else []
        options = {"config_dir": str(find_conf_dir()), **make_hydra_options()}
        ours = GlobalHydra.instance().hydra  # there can be one at a time
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(**options):
                return compose("config", [*choices, *search_path])
        finally:
            GlobalHydra.instance().hydra = ours


def _is_value(override: Any) -> bool:
    """Return whether an override only sets a key that the schema has."""
    key = override.key_or_group
    if key.startswith("hydra") or override.is_delete() or override.is_add():
        return False
    return "." in key or key in list_keys()
