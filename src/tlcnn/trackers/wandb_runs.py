"""Runs for Weights & Biases: a folder for each run, which `wandb sync` uploads."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tlcnn.storage import make_dir
from tlcnn.trackers.place import check_package, has_run, mark_run
from tlcnn.trackers.tracked_run import TrackedRun

_MAX_TAG = 64  # characters


def export_wandb(runs: Sequence[TrackedRun], output: str, project: str) -> Iterator[bool]:
    """Write the folder of each run that is new or has changed, without a connection.

    The id is that of the run, so that a folder that is uploaded twice is one run.
    """
    check_package("wandb")
    for run in runs:
        folders = [*(Path(output) / "wandb").glob(f"offline-run-*-{run.run_id}")]
        is_new = not any(has_run(folder, run) for folder in folders)
        if is_new:
            for folder in folders:
                shutil.rmtree(folder)
            mark_run(_write_run(run, output, project), run)
        yield is_new


def _write_run(run: TrackedRun, output: str, project: str) -> Path:
    """Write the folder of a run and return it."""
    import wandb

    settings = wandb.Settings(
        mode="offline",
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        root_dir=str(make_dir(Path(output).absolute())),
    )
    session = wandb.init(
        project=project,
        id=run.run_id,
        name=run.name,
        group=run.cell_id,
        tags=[f"{name}:{value}"[:_MAX_TAG] for name, value in run.tags.items()],
        config={**run.config, **run.tags},
        settings=settings,
    )
    for epoch in run.epochs:
        session.log({**epoch.values, "epoch": epoch.epoch}, step=epoch.step)
    session.summary.update(run.metrics)
    folder = Path(session.dir).parent
    session.finish()
    return folder
