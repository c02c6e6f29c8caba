"""The command that trains one run again."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from tlcnn.errors import DataError
from tlcnn.records.environment import read_sittings
from tlcnn.sweep.study_record import find_studies, read_study

_PROGRAM = "python -m tlcnn.train"
# Where and how a run was trained: nobody else's business.
_OWN = ("output_dir=", "cache_dir=", "progress=", "study=", "fail_fast=", "on_locked=")


def find_commands(folders: Iterable[str | Path]) -> dict[str, str]:
    """Return the command of each run, by its folder.

    A run of a sweep has the words of its cell, from the study's record (`studies/*.json`); another
    one those of its first sitting. A run without either (an imported one) is left out.
    """
    paths = [Path(folder) for folder in folders]
    words: dict[str, tuple[str, ...]] = {}
    for output_dir in sorted({path.parent.parent for path in paths}):
        words |= _read_studies(output_dir)
    found = {}
    for path in paths:
        run_id = path.name.rsplit("-", 1)[-1]
        command = _write(words[run_id]) if run_id in words else _read_first_sitting(path)
        if command:
            found[str(path)] = command
    return found


def _read_studies(output_dir: Path) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for path in find_studies(output_dir):
        try:
            runs = read_study(path)["runs"]
            found |= {run["run_id"]: tuple(run["overrides"]) for run in runs}
        except (DataError, KeyError, TypeError):
            continue
    return {run_id: words for run_id, words in found.items() if _stands_alone(words)}


def _stands_alone(words: Iterable[str]) -> bool:
    return not any(word.startswith("ancestor=") for word in words)


def _write(words: Iterable[str]) -> str:
    kept = [word for word in words if not word.startswith(_OWN)]
    if any(word.startswith("experiment=") for word in kept):
        kept = ["hydra.mode=RUN", *kept]  # an experiment file may ask for its whole sweep
    return " ".join([_PROGRAM, *map(shlex.quote, kept)])


def _read_first_sitting(folder: Path) -> str:
    try:
        words = shlex.split(read_sittings(folder)[0].command)[1:]
    except (DataError, ValueError, IndexError):
        return ""
    return " ".join([_PROGRAM, *map(shlex.quote, words)])
