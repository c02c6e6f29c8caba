"""`tlcnn import`: import predictions of other tools, to compare them with trained runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tlcnn.data.index import SPLITS, TASKS
from tlcnn.errors import ConfigError
from tlcnn.text import print_text

if TYPE_CHECKING:
    from tlcnn.records.plan_record import PlanRecord

# Datasets that have another name here than at MedMNIST.
_DATASETS = {"dermamnist": "dermamnist_leaky"}


def add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "import",
        help="import predictions of other tools, to compare them with your runs",
        description="A file is one run: a table (CSV, TSV, parquet) of image id, label and one "
        "column of probabilities a class, or a file of MedMNIST's evaluator.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a file of predictions; each becomes a run")
    add("-o", "--output-dir", default="outputs", help="default: outputs")
    add("--dataset", help="the name of the dataset, as in dataset=NAME")
    add("--name", help="a name for the method; default: the model")
    add("--model", help="the name of the network; default: the name of the method")
    add("--init", default="unknown", help="source of the weights, e.g. imagenet")
    add("--k", type=int, help="units transferred (`tlcnn units MODEL`)")
    add("--j", type=int, default=0, help="units frozen; default: 0")
    units = "the number of the network's units, or their names; default: as many as k or j"
    add("--units", nargs="+", metavar="N", help=units)
    seed = "the seed of the first file, the next files get the next; default: free ones"
    add("--seed", type=int, help=seed)
    add("--split", help=f"the split of the images: {', '.join(SPLITS)}; default: test")
    add("--labels", metavar="FILE", help="a table of id and label, or an npz")
    add("--groups", metavar="FILE", help="a table of id and group (the lesion)")
    add("--classes", nargs="+", default=[], help="the names, in the order of the labels")
    add("--positive", help="the positive class")
    add("--task", help=", ".join(TASKS))
    add("--logits", action="store_true", help="the scores are logits")
    for role in ("id", "label", "group", "split"):
        add(f"--{role}-column", metavar="COLUMN", help=f"the column of the {role}")
    setting = "a setting that differs between methods, e.g. train.lr=0.001"
    add("--setting", action="append", default=[], metavar="KEY=VALUE", help=setting)
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> None:
    from tlcnn.records.foreign import load_foreign
    from tlcnn.records.foreign_run import list_references, match_reference, write_foreign_run
    from tlcnn.records.foreign_table import ROLES, Options
    from tlcnn.records.read import read_runs

    columns = {role: getattr(options, f"{role}_column") for role in ROLES}
    reading = Options(
        split=options.split,
        labels=options.labels and Path(options.labels),
        groups=options.groups and Path(options.groups),
        classes=tuple(options.classes),
        columns={role: name for role, name in columns.items() if name},
        task=options.task,
        positive=options.positive,
        logits=options.logits,
    )
    output_dir = Path(options.output_dir)
    for position, path in enumerate(map(Path, options.files)):
        foreign = load_foreign(path, reading)
        plan = _make_plan(path, position, options)
        runs = read_runs(*([output_dir] if output_dir.is_dir() else []))
        foreign = match_reference(foreign, list_references(runs, plan.dataset))
        folder, was_there = write_foreign_run(
            foreign, plan, runs, output_dir=output_dir, is_seed_fixed=options.seed is not None
        )
        print_text(f"{'already there' if was_there else 'imported'}: {folder}")
        for note in foreign.notes:
            print_text(f"  {note}")


def _make_plan(path: Path, position: int, options: argparse.Namespace) -> "PlanRecord":
    """Return what the command line and the file's name say about the method.

    Raises ConfigError for what is missing, and for numbers of units that do not fit.
    """
    from tlcnn.records.foreign_table import parse_evaluator_name
    from tlcnn.records.plan_record import PlanRecord, UnitRecord

    evaluator_name = parse_evaluator_name(path)
    name, dataset = options.name or options.model, options.dataset
    if not dataset and evaluator_name:
        dataset = _DATASETS.get(evaluator_name.flag, evaluator_name.flag)
    if not dataset or not name:
        missing = "--dataset (as in dataset=NAME)" if not dataset else "--name or --model"
        raise ConfigError(f"say what {path.name} is: {missing} is missing")
    if options.k is None and options.init not in ("unknown", "random"):
        raise ConfigError(
            f"--init {options.init}: how many units did it transfer? Say --k N "
            "(`tlcnn units MODEL` counts them; all of a ResNet are 5)"
        )
    k, j = options.k or 0, options.j
    if k < 0 or j < 0:
        raise ConfigError(f"--k {k} --j {j}: units are counted from 0")
    seed = (options.seed or 0) + position
    if options.seed is None and evaluator_name and evaluator_name.seed is not None:
        seed = evaluator_name.seed
    units = _parse_units(options.units, max(k, j)) if options.units else ()
    return PlanRecord(
        run_id="",
        cell_id="",
        dataset=dataset,
        model=options.model or name,
        source=(options.init,),
        k=k,
        j=j,
        bn="frozen",
        seed=seed,
        units=tuple(UnitRecord(unit) for unit in units),
        settings=dict(_parse_setting(text) for text in options.setting),
        imported=True,
        name=name,
        import_file=path.name,
    )


def _parse_units(texts: list[str], n_least: int) -> tuple[str, ...]:
    """Return the names of all units, given as names or as their number; at least `n_least`."""
    names = tuple(texts)
    if len(names) == 1 and names[0].isdecimal():
        names = tuple(f"unit{number}" for number in range(1, int(names[0]) + 1))
    if not names or len(names) < n_least:
        raise ConfigError(
            f"--units {' '.join(texts)}: {len(names)} units, of which --k or --j takes {n_least}; "
            "give the number of all, or their names from the input on"
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"--units {' '.join(texts)}: every name once")
    return names


def _parse_setting(text: str) -> tuple[str, object]:
    import yaml

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--setting {text}: KEY=VALUE is expected, e.g. train.lr=0.001")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value
