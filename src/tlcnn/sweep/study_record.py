"""A study's record, `output_dir/studies/NAME.json`: the list of its runs.

It tells which runs of a study are missing.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tlcnn.config.schema import find_conf_dir, list_local_keys
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names
from tlcnn.records.files import read_json
from tlcnn.records.search import SearchRecord
from tlcnn.storage import digest_of, make_dir, write_atomic
from tlcnn.sweep.resolve import Sweep

STUDY_VERSION = 1
ONE_RUN = "hydra.mode=RUN"  # with an experiment whose file asks for a sweep


def name_study(name: str | None, arguments: Sequence[str], sweep: Sweep) -> str:
    """Return the name that a sweep is recorded under, as `name_sweep` does.

    The hash is the same for the same set of runs in any order.
    """
    run_ids = sorted(run.run_id for run in sweep.runs if run.role == "cell")
    words = sorted(map(list, sweep.cells))  # they tell sweeps apart in which nothing can run
    return name_sweep(name, arguments, "sweep", lambda: digest_of(run_ids or words, 8))


def name_sweep(
    name: str | None, arguments: Sequence[str], kind: str, make_digest: Callable[[], str]
) -> str:
    """Return the name that a sweep or search is recorded under.

    It is the name that was given, or the experiment's where the command line changes nothing but
    places, or else its kind and a hash.
    Raises ConfigError for a name that cannot be a file's.
    """
    if name is not None:
        if not re.fullmatch(r"[\w-][\w.-]*", name):
            raise ConfigError(f"study={name} names a file: use letters, digits, _, - and . only.")
        return name
    values = dict(word.lstrip("+").split("=", 1) for word in arguments if "=" in word)
    experiment = values.pop("experiment", None)
    keys = {key.replace("init.task_run.", "") for key in values}
    keys = {key.replace("init.task_dataset.", "dataset.") for key in keys}
    if experiment and keys <= {*list_local_keys()}:
        return experiment
    return f"{experiment or kind}-{make_digest()}"


def write_study(
    output_dir: Path,
    name: str,
    sweep: Sweep,
    *,
    sources: Mapping[str, Any],
    search: SearchRecord | None = None,
) -> Path:
    """Record which runs a study consists of, and return the file.

    Args:
        sources: what the sweep was made from: arguments, params, blocks and flags.
        search: of a study that is a search.
    """
    record = {
        "version": STUDY_VERSION,
        "name": name,
        **sources,
        "runs": [
            {
                "run_id": run.run_id,
                "run_name": run.plan.run_name,
                "role": run.role,
                "wave": run.wave,
                "overrides": list(run.job.overrides),
                "ancestor": run.job.ancestor,
            }
            for run in sweep.runs
        ],
        "left_out": [{"overrides": list(e.overrides), "why": e.error} for e in sweep.left_out],
        "broken": [{"overrides": list(cell), "why": o.error} for cell, o in sweep.broken],
        **({} if search is None else {"search": asdict(search)}),
    }
    path = make_dir(output_dir / "studies") / f"{name}.json"
    write_atomic(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def check_kind(output_dir: Path, name: str, *, is_search: bool) -> None:
    """Raise ConfigError where a name is that of a search and a sweep is to be recorded.

    And the reverse: either record would replace the other, and trials would become results.
    """
    try:
        was_search = "search" in read_json(output_dir / "studies" / f"{name}.json")
    except (DataError, TypeError):
        return
    if was_search != is_search:
        kinds = ("a sweep", "a search")
        raise ConfigError(
            f"the study {name} in {output_dir} is {kinds[was_search]}, and this is "
            f"{kinds[is_search]}: give it another name, study=NAME. What is trained already is "
            "not trained again"
        )


def write_failures(path: Path, errors: Mapping[str, str]) -> None:
    """Note in a study's record which runs failed in its last sweep, and why."""
    record = {**read_study(path), "failures": dict(errors)}
    write_atomic(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read_study(path: Path) -> dict[str, Any]:
    """Return a study's record.

    Somebody else may have written the file: what it calls a run's folder is a name, never a path.
    Raises DataError for what this version cannot read.
    """
    try:
        record = read_json(path)
        if record["version"] != STUDY_VERSION:
            raise ValueError(f"version {record['version']}")
        texts = [record.setdefault("name", path.stem), *record.get("flags", [])]
        for item in record.get("failures", {}).items():
            texts += item
        for run in record["runs"]:
            texts += [run["run_id"], run["run_name"], *run["overrides"]]
            folder = f"{run['run_name']}-{run['run_id']}"
            if not re.fullmatch(r"[\w.+-]+", folder):
                raise ValueError(f"{folder!r} is not the name of a run folder")
            if type(run.setdefault("ancestor", 0)) is not int:
                raise ValueError(f"ancestor {run['ancestor']!r}")
        if no_texts := [value for value in texts if not isinstance(value, str)]:
            raise ValueError(f"{no_texts[0]!r} is not a text")
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no record of a study that this version can read ({error}): repeat the "
            "study's command with dry_run=false, which writes it again and trains nothing twice"
        ) from error
    return dict(record)


def find_studies(output_dir: Path) -> list[Path]:
    """Return the files of the studies of an output folder and of those in it, oldest first.

    A link or a pipe is among them: `read_study` refuses it and says why.
    """
    paths = [p for place in ("studies", "*/studies") for p in output_dir.glob(f"{place}/*.json")]
    return sorted(paths, key=lambda path: (path.lstat().st_mtime, path.name))


def find_study(name: str, output_dir: Path) -> Path:
    """Return a study's record by its name. Raises DataError, naming those there are."""
    records = find_studies(output_dir)
    paths = [path for path in records if path.stem == name and path.is_file()]
    if paths:
        return min(paths, key=lambda path: len(path.parts))  # that of the folder itself
    names = list(dict.fromkeys(path.stem for path in records))
    listed = f" There are: {list_names(names, 20)}." if names else ""
    if (find_conf_dir() / "experiment" / f"{name}.yaml").is_file():
        advice = f"Begin it: python -m tlcnn.train experiment={name}"
    else:
        advice = "Give an output folder, or a study and --output-dir, the folder it writes to"
    raise DataError(
        f"there is no folder {name}, and no study '{name}' was begun in {output_dir}."
        f"{did_you_mean(name, names)}{listed} {advice}"
    )
