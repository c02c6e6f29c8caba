"""Runs as two tables: `runs.csv` with a row for each run, and `epochs.csv` for each epoch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from tlcnn.report.writers.csv import write_csv
from tlcnn.storage import make_dir, write_atomic
from tlcnn.trackers.tracked_run import TrackedRun


def export_csv(runs: Sequence[TrackedRun], output: str, project: str) -> Iterator[bool]:
    """Write the tables anew, with these runs alone."""
    folder = make_dir(Path(output))
    names = [{"project": project, "run": run.name, "run_id": run.run_id} for run in runs]
    rows = [
        {**name, "cell_id": run.cell_id, **run.tags, **run.config, **run.metrics}
        for name, run in zip(names, runs, strict=True)
    ]
    epochs = [
        {**name, "epoch": epoch.epoch, "step": epoch.step, **epoch.values}
        for name, run in zip(names, runs, strict=True)
        for epoch in run.epochs
    ]
    for name, records in (("runs", rows), ("epochs", epochs)):
        write_atomic(folder / f"{name}.csv", write_csv(pd.DataFrame(records)))
    yield from [True] * len(runs)
