"""Runs for TensorBoard: a folder of events for each run, with its settings as hyperparameters."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tlcnn.records.event_file import PATTERN, EventFile, check_tensorboard
from tlcnn.trackers.place import has_run, mark_run
from tlcnn.trackers.tracked_run import TrackedRun

_PLAIN = (bool, int, float, str)


def export_tensorboard(runs: Sequence[TrackedRun], output: str, project: str) -> Iterator[bool]:
    """Write the folder of each run that is new or has changed."""
    check_tensorboard("--to tensorboard")
    for run in runs:
        folder = Path(output) / project / run.name
        is_new = not has_run(folder, run)
        if is_new:
            for path in folder.glob(PATTERN):
                path.unlink()
            _write_run(run, folder)
            mark_run(folder, run)
        yield is_new


def _write_run(run: TrackedRun, folder: Path) -> None:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    events = EventFile(folder)
    settings = {
        key: value if isinstance(value, _PLAIN) else str(value)
        for key, value in {**run.config, **run.tags}.items()
    }
    events.add_summary(hparams_pb(settings, trial_id=run.run_id, start_time_secs=run.begun))
    for epoch in run.epochs:
        events.add_scalars(epoch.step, epoch.values, epoch.seconds)
    last_step = run.epochs[-1].step if run.epochs else 0
    final = {f"final/{name}": value for name, value in run.metrics.items()}
    events.add_scalars(last_step, final, run.finished)
    events.close()
