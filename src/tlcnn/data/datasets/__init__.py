"""The datasets: a name -> a function that returns the dataset's index.

To add a dataset, touch three files:

1. `data/datasets/<kind>.py`: `load_<kind>(root: Path, *, name: str, <options>) -> Index`. The
   keyword-only parameters are the options that `dataset.options` may hold. `Index` says what an
   index is, and `FileImages` opens image files. Start from `folder.py` for folders of images,
   and from `ham10000.py` for a table that names images and groups.
2. `DATASETS` below: one import and one entry.
3. `conf/dataset/<name>.yaml`: `kind: <kind>`, `name: <name>`, `root`, and what differs from the
   defaults in `config/schema.py`.

Splits, audits and the image cache then work with it. A small example in `LAID` of
`tests/test_datasets.py` adds the tests that every dataset passes.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tlcnn.data.datasets.folder import load_folder
from tlcnn.data.datasets.ham10000 import load_ham10000
from tlcnn.data.datasets.lc25000_lung import load_lc25000_lung
from tlcnn.data.datasets.medmnist import load_medmnist
from tlcnn.data.datasets.planted import load_planted
from tlcnn.data.datasets.synthetic import load_synthetic
from tlcnn.data.datasets.table import load_table
from tlcnn.data.index import Index
from tlcnn.errors import ConfigError, did_you_mean, list_names

DATASETS: dict[str, Callable[..., Index]] = {
    "folder": load_folder,
    "ham10000": load_ham10000,
    "lc25000_lung": load_lc25000_lung,
    "medmnist": load_medmnist,
    "planted": load_planted,
    "synthetic": load_synthetic,
    "table": load_table,
}


def load_index(kind: str, *, name: str, root: Path | str, options: Mapping[str, Any]) -> Index:
    """Load a dataset's index; `name` is what records call it.

    Raises:
        ConfigError: an unknown kind, or options that the loader does not take.
        DataError: the data is missing, broken or contradictory.
    """
    if kind not in DATASETS:
        allowed = sorted(DATASETS)
        raise ConfigError(
            f"dataset.kind={kind} does not exist; choose one of {list_names(allowed, 20)}."
            f"{did_you_mean(kind, allowed)}"
        )
    check_options(kind, options)
    return DATASETS[kind](Path(root), name=name, **options)


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigError when options do not fit the loader's keyword-only parameters."""
    parameters = inspect.signature(DATASETS[kind]).parameters.values()
    options_of_loader = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "name"]
    allowed = [p.name for p in options_of_loader]
    listing = f"{kind} takes {list_names(allowed, 20)}" if allowed else f"{kind} takes none"
    for key in options:
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            raise ConfigError(f"dataset.options.{key} does not exist; {listing}.{hint}")
    for parameter in options_of_loader:
        name = parameter.name
        if name in options:
            _check_type(name, options[name], parameter.annotation)
        elif parameter.default is parameter.empty:
            raise ConfigError(
                f"dataset.options.{name} is needed by dataset.kind={kind}; {listing}"
            )


def _check_type(name: str, value: Any, annotation: Any) -> None:
    """Raise ConfigError when a plain number or text was asked for and something else given."""
    types = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
    if annotation in types and type(value) not in types[annotation]:
        kind = annotation.__name__
        raise ConfigError(f"dataset.options.{name}={value!r} must be of type {kind}")
