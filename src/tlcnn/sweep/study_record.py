"""A study's record, `output_dir/studies/NAME.json`: which runs it consists of.

With it a run that is not there is *missing*, and not just never thought of.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlcnn.config.schema import list_keys
from tlcnn.errors import ConfigError, DataError, did_you_mean, list_names
from tlcnn.storage import digest_of, make_dir, write_atomic
from tlcnn.sweep.resolve import Sweep

STUDY_VERSION = 1


def name_study(given: str | None, arguments: Sequence[str], sweep: Sweep) -> str:
    """Return what a sweep is recorded as.

    The given name; else the experiment's, where nothing else was asked for; else one that the
    same set of runs has in any order.

    Raises:
        ConfigError: a name that cannot be a file's.
    """
    if given is not None:
        if not re.fullmatch(r"[\w-][\w.-]*", given):
            raise ConfigError(f"study={given} names a file: use letters, digits, _, - and . only.")
        return given
    values = dict(word.lstrip("+").split("=", 1) for word in arguments if "=" in word)
    experiment = values.pop("experiment", None)
    ignored = {*list_keys("place"), "fail_fast", "dry_run"}
    keys = {key.replace("init.task_dataset.", "dataset.") for key in values}
    if experiment and keys <= ignored:
        return experiment
    digest = digest_of(sorted(job.run_id for job in sweep.jobs if job.role == "cell"), 8)
    return f"{experiment or 'sweep'}-{digest}"


def write_study(output_dir: Path, name: str, sweep: Sweep, *, words: Mapping[str, Any]) -> Path:
    """Record which runs a study consists of, and return the file.

    Args:
        words: what it was made from: arguments, params and blocks.
    """
    jobs = [
        {
            "run_id": job.run_id,
            "run_name": job.run_name,
            "role": job.role,
            "wave": job.wave,
            "overrides": list(job.overrides),
        }
        for job in sweep.jobs
    ]
    left_out = [{"overrides": list(cell), "why": why} for cell, why in sweep.left_out]
    broken = [{"overrides": list(b.overrides), "why": b.error} for b in sweep.broken]
    record = {
        "version": STUDY_VERSION,
        "name": name,
        **words,
        "runs": jobs,
        "left_out": left_out,
        "broken": broken,
    }
    path = make_dir(output_dir / "studies") / f"{name}.json"
    write_atomic(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def write_failures(path: Path, errors: Mapping[str, str]) -> None:
    """Note in a study's record which runs failed in its last sweep, and why."""
    record = read_study(path)
    record["failures"] = dict(errors)
    write_atomic(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read_study(path: Path) -> dict[str, Any]:
    """Return a study's record. Raises DataError when it is none that this version can read."""
    try:
        record = json.loads(path.read_text())
        if record["version"] != STUDY_VERSION:
            raise ValueError(f"version {record['version']}")
        _ = [run["run_id"] + run["run_name"] for run in record["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no record of a study that this version can read ({error}): repeat the "
            "study's command with dry_run=false, which writes it again and trains nothing twice"
        ) from error
    return record


def find_studies(output_dir: Path) -> list[Path]:
    """Return the records of the studies of an output folder, oldest first."""
    found = (output_dir / "studies").glob("*.json")
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def find_study(name: str, output_dir: Path) -> Path:
    """Return a study's record by its name. Raises DataError, naming those there are."""
    path = output_dir / "studies" / f"{name}.json"
    if path.is_file():
        return path
    names = [found.stem for found in find_studies(output_dir)]
    listed = f" There are: {list_names(names, 20)}." if names else ""
    raise DataError(
        f"no study '{name}' was begun in {output_dir}.{did_you_mean(name, names)}{listed} Begin "
        f"it: python -m tlcnn.train experiment={name}"
    )
