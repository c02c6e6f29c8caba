"""`tlcnn import`: predictions of other tools as run folders, for the same tables and tests."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.data.index import SPLITS, TASKS
from tlcnn.errors import ConfigError
from tlcnn.text import print_text

if TYPE_CHECKING:
    from tlcnn.records.foreign_run import Origin

# What MedMNIST's flags are called here where it is another word.
_DATASETS = {"dermamnist": "dermamnist_leaky"}


def add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "import",
        help="predictions of other tools as runs, for the same tables and tests",
        description="A file is one run: a table (CSV, TSV, parquet) of image id, label and one "
        "column of probabilities a class, or a file of MedMNIST's evaluator.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="each is a run of its own")
    parser.add_argument("-o", "--output-dir", default="outputs", help="default: outputs")
    parser.add_argument("--dataset", help="as own runs call it, e.g. ham10000")
    parser.add_argument("--name", help="of the method; default: the model")
    parser.add_argument("--model", help="default: the name")
    parser.add_argument("--init", default="unknown", help="source of the weights, e.g. imagenet")
    parser.add_argument("--k", type=int, help="units transferred (`tlcnn units MODEL`)")
    parser.add_argument("--j", type=int, default=0, help="units frozen; default: 0")
    parser.add_argument(
        "--units",
        nargs="+",
        metavar="N",
        help="how many units the network has, or their names; default: as many as k or j",
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="of the first file, the others count on; default: the next that are free",
    )
    parser.add_argument("--split", help=f"{', '.join(SPLITS)}; default: test")
    parser.add_argument("--labels", metavar="FILE", help="a table of id and label, or an npz")
    parser.add_argument("--groups", metavar="FILE", help="a table of id and group (the lesion)")
    parser.add_argument("--classes", nargs="+", default=[], help="in the order of the labels")
    parser.add_argument("--positive", help="the class that sensitivity is about")
    parser.add_argument("--task", help=", ".join(TASKS))
    parser.add_argument("--logits", action="store_true", help="scores are logits")
    for role in ("id", "label", "group", "split"):
        parser.add_argument(f"--{role}-column", metavar="COLUMN", help=f"which holds the {role}")
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="anything else that tells cells apart, e.g. train.lr=0.001",
    )
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> None:
    for position, file in enumerate(options.files):
        _import_file(Path(file), position, options)


def _import_file(path: Path, position: int, options: argparse.Namespace) -> None:
    from tlcnn.records.foreign import Options, load_foreign
    from tlcnn.records.foreign_run import load_references, match_reference, write_foreign_run

    roles = ("id", "label", "group", "split")
    columns = {role: getattr(options, f"{role}_column") for role in roles}
    foreign = load_foreign(
        path,
        Options(
            split=options.split,
            labels=options.labels and Path(options.labels),
            groups=options.groups and Path(options.groups),
            classes=tuple(options.classes),
            columns={role: name for role, name in columns.items() if name},
            task=options.task,
            positive=options.positive,
            logits=options.logits,
        ),
    )
    output_dir = Path(options.output_dir)
    origin = _make_origin(path, position, options)
    references = load_references(output_dir, origin.dataset)
    foreign = match_reference(foreign, references)
    folder, was_there = write_foreign_run(foreign, origin, output_dir=output_dir, source=path)
    print_text(f"{'already there' if was_there else 'imported'}: {folder}")
    for note in foreign.notes:
        print_text(f"  {note}")


def _make_origin(path: Path, position: int, options: argparse.Namespace) -> "Origin":
    from tlcnn.records.foreign_run import Origin
    from tlcnn.records.foreign_table import parse_medmnist_name

    found = parse_medmnist_name(path)
    name = options.name or options.model
    dataset = options.dataset or (found and _DATASETS.get(found.flag, found.flag))
    if not dataset or not name:
        lacks = "--dataset (as own runs call it)" if not dataset else "--name or --model"
        raise ConfigError(f"say what {path.name} is: {lacks} is missing")
    k, j = _count_units(options)
    seed = found.seed if found and found.seed is not None and options.seed is None else None
    return Origin(
        dataset=dataset,
        name=name,
        model=options.model or name,
        init=options.init,
        k=k,
        j=j,
        seed=(options.seed or 0) + position if seed is None else seed,
        settings=dict(_parse_setting(word) for word in options.setting),
        units=_parse_units(options.units, max(k, j)),
        is_seed_given=options.seed is not None,
    )


def _count_units(options: argparse.Namespace) -> tuple[int, int]:
    """Return (k, j). Raises ConfigError where a source is named and k is not, or both clash."""
    if options.k is None and options.init not in ("unknown", "random"):
        raise ConfigError(
            f"--init {options.init}: how many units did it transfer? Say --k N "
            "(`tlcnn units MODEL` counts them; all of a ResNet are 5)"
        )
    k, j = options.k or 0, options.j
    if k < 0 or j < 0:
        raise ConfigError(f"--k {k} --j {j}: units are counted from 0")
    return k, j


def _parse_units(words: Sequence[str] | None, n_least: int) -> tuple[str, ...] | None:
    """Return the names of all units, from the input; None where none are told.

    Raises:
        ConfigError: fewer than are transferred or frozen, or a name twice.
    """
    if words is None:
        return None
    names = tuple(words)
    if len(names) == 1 and names[0].isdecimal():
        names = tuple(f"unit{number}" for number in range(1, int(names[0]) + 1))
    given = " ".join(words)
    if not names or len(names) < n_least:
        raise ConfigError(
            f"--units {given}: {len(names)} units, of which --k or --j takes {n_least}; give the "
            "number of all, or their names from the input on"
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"--units {given}: every name once")
    return names


def _parse_setting(word: str) -> tuple[str, object]:
    import yaml

    key, equals, value = word.partition("=")
    if not key or not equals:
        raise ConfigError(f"--setting {word}: KEY=VALUE is expected, e.g. train.lr=0.001")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value
