"""The states of the runs of a study or folder: done, running, stopped, failed, missing.

State is read from the run folders and nowhere else.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tlcnn.config.spelling import write_override
from tlcnn.errors import DataError, RunLocked
from tlcnn.records.files import read_json, read_text
from tlcnn.records.folder import HOLDER, RunDir
from tlcnn.records.read import find_run_dirs, is_held, read_state
from tlcnn.records.search import SearchRecord, read_search
from tlcnn.run.job import Job
from tlcnn.storage import writing
from tlcnn.sweep.duration import describe_duration, read_progress
from tlcnn.sweep.search_text import describe_search
from tlcnn.sweep.study_record import find_studies, find_study, read_study
from tlcnn.text import align_columns, make_visible, print_text

STATES = ("done", "running", "stopped", "failed", "missing")
PRUNED = "pruned"  # by a search; shown where there is one


@dataclass(frozen=True)
class Entry:
    """One run and its state.

    Attributes:
        state: done, running, stopped (begun, and no process trains it), failed, or missing.
        detail: who trains it and how far it is, or its error's first line.
        job: what trains it, where a study recorded that.
    """

    folder: Path
    state: str
    detail: str
    job: Job | None = None


@dataclass(frozen=True)
class Status:
    """The runs of a study, or those of no study.

    Attributes:
        flags: the flags of the study's command line.
        record: the study's file.
        problem: why the study's file cannot be read; empty if it can.
        search: of a study that is a search.
        refused: the combinations of the study that cannot be run, each with the error.
    """

    title: str
    entries: tuple[Entry, ...]
    flags: tuple[str, ...] = ()
    record: Path | None = None
    problem: str = ""
    search: SearchRecord | None = None
    refused: tuple[tuple[str, str], ...] = ()

    def count(self) -> dict[str, int]:
        """Return how many runs are in each state."""
        states = [entry.state for entry in self.entries]
        pruned = (PRUNED,) if PRUNED in states else ()
        return {state: states.count(state) for state in (*STATES, *pruned)}


def read_status(target: str, output_dir: Path) -> list[Status]:
    """Return the status of a study of `output_dir`, or of every study and other run of a folder.

    A study of a folder whose file cannot be read has a problem and no entries.
    Raises DataError where the folder or the study is missing, or the one study's file is damaged.
    """
    folder = Path(target)
    if not folder.is_dir() and (len(folder.parts) > 1 or target == "outputs"):
        raise DataError(
            f"there is no folder {folder} in {Path.cwd()}: nothing was trained from here. Go to "
            "the folder in which you train, or give the folder of the runs: tlcnn status FOLDER. "
            "`tlcnn train experiment=demo` trains an example."
        )
    if not folder.is_dir():
        return [_read_study_status(find_study(target, output_dir), output_dir)]
    studies = []
    for path in find_studies(folder):
        try:
            studies.append(_read_study_status(path, folder))
        except DataError as error:
            studies.append(Status(f"study {path.stem}", (), record=path, problem=str(error)))
    in_studies = {entry.folder.name for study in studies for entry in study.entries}
    folders = sorted(find_run_dirs(folder))
    alone = tuple(_read_entry(path) for path in folders if path.name not in in_studies)
    if not studies and not alone:
        raise DataError(f"there is no run in {folder} yet; train something first")
    return [*studies, *([Status("runs of no study", alone)] if alone else [])]


def _read_study_status(path: Path, output_dir: Path) -> Status:
    record = read_study(path)
    entries = []
    for run in record["runs"]:
        folder = path.parents[1] / "runs" / f"{run['run_name']}-{run['run_id']}"
        entry = _read_entry(folder, Job(tuple(run["overrides"]), run["ancestor"]))
        failure = record.get("failures", {}).get(run["run_id"])
        if entry.state in ("missing", "stopped") and failure is not None:
            # It failed before it could write FAILED, or it was killed.
            saved = f"  (saved: {entry.detail})" if entry.state == "stopped" else ""
            entry = replace(entry, state="failed", detail=failure + saved)
        entries.append(entry)
    title = f"study {record['name']}"
    if path.parents[1] != output_dir:
        title += f" in {path.parents[1]}"
    flags = tuple(record.get("flags", ()))
    refused = tuple((" ".join(c["overrides"]), c["why"]) for c in record.get("broken", ()))
    search = read_search(record)
    return Status(title, tuple(entries), flags, path, search=search, refused=refused)


def _read_entry(folder: Path, job: Job | None = None) -> Entry:
    begun = (folder / "plan.json").is_file() or is_held(folder) or (folder / "FAILED").is_file()
    state = read_state(folder) if begun else "missing"
    detail = ""
    if state in ("running", "stopped"):
        detail = _describe_progress(folder)
    elif state == "failed":
        try:  # the traceback ends with the error
            lines = read_text(folder / "FAILED").splitlines()
        except DataError as error:
            return Entry(folder, state, str(error), job)
        errors = [line for line in lines if line and not line[0].isspace() and ": " in line]
        reason = errors[-1].removeprefix("tlcnn.errors.") if errors else "failed"
        detail = f"{reason}  ({folder / 'log.txt'})"
    return Entry(folder, state, detail, job)


def _describe_progress(folder: Path) -> str:
    """Return host, process, epoch and time left; for a stopped run, only epoch and time."""
    parts = []
    with suppress(DataError):  # the process ends in this moment
        if is_held(folder):
            holder = read_json(folder / HOLDER)
            parts.append(f"{holder.get('host')} pid {holder.get('pid')}")
    progress = read_progress(folder)
    if progress is not None and progress.n_finished:
        n_finished, n_epochs = progress.n_finished, progress.n_epochs
        left_s = progress.trained_s / n_finished * (n_epochs - n_finished)
        parts.append(f"epoch {n_finished} of {n_epochs}")
        parts.append(f"{describe_duration(left_s)} left")
    return ", ".join(parts) or "in its first epoch"


def describe_status(statuses: Sequence[Status], *, every: bool = False) -> str:
    """Return a table of counts, and below it the runs that are not done, or `every` run.

    The combinations of a study that cannot be run follow its runs.

    The studies whose files cannot be read follow, one a line.
    """
    counts = {id(status): status.count() for status in statuses if not status.problem}
    states = dict.fromkeys(state for count in counts.values() for state in count) or STATES
    rows: list[tuple[str, ...]] = [("", *states, "all")]
    for status in (status for status in statuses if not status.problem):
        numbers = [counts[id(status)].get(state, 0) for state in states]
        rows.append((make_visible(status.title), *map(str, numbers), str(len(status.entries))))
    lines = align_columns(rows, right=range(1, len(rows[0])))
    for status in statuses:
        ended = () if every else ("done", PRUNED)
        shown = [entry for entry in status.entries if entry.state not in ended]
        if shown:
            cells = [(e.state, e.folder.name, e.detail) for e in shown]
            table = align_columns([[make_visible(cell) for cell in row] for row in cells])
            lines += ["", f"{make_visible(status.title)}:", *(f"  {line}" for line in table)]
        if status.refused:
            lines += ["", f"{make_visible(status.title)} has combinations that cannot be run:"]
            lines += [f"  {make_visible(f'{words}: {why}')}" for words, why in status.refused]
    for status in statuses:
        if status.search is not None:
            lines += ["", *describe_search(status.search)]
    problems = [make_visible(status.problem) for status in statuses if status.problem]
    return "\n".join([*lines, *([""] if problems else []), *problems])


def list_failed(statuses: Sequence[Status]) -> list[Job]:
    """Return jobs for the failed runs, each once. Raises DataError for a run of no study.

    A trial of a search that diverged is not among them: it counts as the worst of its arm.
    """
    jobs: dict[str, Job] = {}
    arms = [arm for status in statuses if status.search for arm in status.search.arms]
    diverged = {t.run_id for arm in arms for t in arm.trials if t.state == "diverged"}
    for entry in (e for status in statuses for e in status.entries if e.state == "failed"):
        if entry.folder.name.rsplit("-", 1)[-1] in diverged:
            continue
        if entry.job is None:
            raise DataError(
                f"{entry.folder.name} belongs to no study: repeat the command that began it "
                "(environment.json in its folder has it)"
            )
        # A relative output_dir is relative to the folder in which the study was begun.
        output_dir = write_override("output_dir", str(entry.folder.absolute().parents[1]))
        job = replace(entry.job, overrides=(*entry.job.overrides, output_dir))
        jobs.setdefault(job.to_json(), job)
    return list(jobs.values())


def list_prunable(statuses: Sequence[Status]) -> list[Entry]:
    """Return the failed and stopped runs whose folders do not lie elsewhere, behind a link."""
    entries = {e.folder: e for status in statuses for e in status.entries}
    return [
        entry
        for entry in entries.values()
        if entry.state in ("failed", "stopped")
        and entry.folder.is_dir()
        and entry.folder.resolve()
        == entry.folder.parents[1].resolve() / "runs" / entry.folder.name
    ]


def measure_mib(folder: Path) -> float:
    """Return the size of a folder's files, MiB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def delete_runs(entries: Sequence[Entry]) -> None:
    """Delete run folders, except of runs that a process trains meanwhile. Raises StorageError."""
    for folder in (entry.folder for entry in entries):
        if is_held(folder):  # by another host, which the lock may not show
            continue
        hold = RunDir(folder).hold(wait=False, say=print_text)
        with suppress(RunLocked), hold, writing(folder):
            if not (folder / "DONE").is_file():
                shutil.rmtree(folder, ignore_errors=os.name == "nt")  # there, a lock file stays
