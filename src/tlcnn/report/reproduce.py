"""The command that trains one run again."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from tlcnn.config.schema import list_local_keys
from tlcnn.config.spelling import write_command
from tlcnn.errors import DataError
from tlcnn.records.environment import read_sessions
from tlcnn.sweep.study_record import ONE_RUN, find_studies, read_study

_PROGRAM = "python -m tlcnn.train"


def find_commands(folders: Iterable[str | Path]) -> dict[str, str]:
    """Return the command of each run, by its folder.

    The command of a study's run has the overrides of its cell, and `--config-dir` if the study was
    trained with it, from the study's record (`studies/*.json`). The command of another run is that
    of its first session. A run without either record, such as an imported one, is left out.
    """
    paths = [Path(folder) for folder in folders]
    overrides: dict[str, tuple[str, ...]] = {}
    for output_dir in sorted({path.parent.parent for path in paths}):
        overrides |= _read_overrides(output_dir)
    commands = {}
    for path in paths:
        run_id = path.name.rsplit("-", 1)[-1]
        arguments = overrides[run_id] if run_id in overrides else _read_first_session(path)
        if arguments is not None:
            commands[str(path)] = f"{_PROGRAM} {write_command(arguments)}".rstrip()
    return commands


def explain_commands(commands: Iterable[str]) -> str:
    """Return sentences on what the commands of some runs train, and where."""
    arguments = [shlex.split(command)[3:] for command in commands]
    has_sweep = any(
        {"-m", "--multirun"} & set(options)
        or any(option.startswith("experiment=") for option in options)
        and ONE_RUN not in options
        for options in arguments
    )
    sweep = f" A command with -m, or with experiment and without {ONE_RUN}, trains a whole sweep."
    return (
        "The command of a run trains it again, after the runs that its weights come from. "
        "It writes to the folder outputs, or to the output_dir that it or its experiment names. "
        "On the same kind of machine the run ends in the same numbers. A finished run is not "
        f"trained again.{sweep if has_sweep else ''}"
    )


def _read_overrides(output_dir: Path) -> dict[str, tuple[str, ...]]:
    """Return the overrides of each run of the studies of a folder, by the run's id."""
    overrides: dict[str, tuple[str, ...]] = {}
    for path in find_studies(output_dir):
        try:
            # An ancestor alone has no overrides: it is trained before the run that starts from it.
            record = read_study(path)
            runs = {r["run_id"]: r["overrides"] for r in record["runs"] if not r["ancestor"]}
            flags = record.get("flags", [])  # the folder of the user's own studies and datasets
        except (DataError, KeyError, TypeError):
            continue
        for run_id, run_overrides in runs.items():
            shown = [word for word in run_overrides if not _is_local(word)]
            if any(word.startswith("experiment=") for word in shown):
                shown = [ONE_RUN, *shown]  # else its file asks for the whole sweep
            overrides[run_id] = (*flags, *shown)
    return overrides


def _is_local(word: str) -> bool:
    """Return whether an override says where and how to train: of no use on another machine.

    Where the images are is kept: without it, a folder or a table of one's own is not there.
    """
    key = word.lstrip("+").partition("=")[0].replace("init.task_run.", "")
    key = key.replace("init.task_dataset.", "dataset.")
    return key in list_local_keys() and key != "dataset.root"


def _read_first_session(folder: Path) -> list[str] | None:
    try:
        return shlex.split(read_sessions(folder)[0].command)[1:]
    except (DataError, ValueError, IndexError):
        return None
