"""Finished runs in the trackers of experiments: one file a tracker, from the records alone.

    run folders -> read_runs -> TrackedRun -> csv | tensorboard | mlflow | wandb

A run that a tracker has already is not taken again, so an export can be repeated.
"""

from collections.abc import Callable, Iterator, Sequence

from tlcnn.trackers.csv_tables import export_csv
from tlcnn.trackers.mlflow_store import export_mlflow
from tlcnn.trackers.tensorboard_files import export_tensorboard
from tlcnn.trackers.tracked_run import TrackedRun
from tlcnn.trackers.wandb_runs import export_wandb

# Takes runs, the place to write to and the name of the project, and yields for each run whether
# it was new or changed.
Export = Callable[[Sequence[TrackedRun], str, str], Iterator[bool]]

TRACKERS: dict[str, Export] = {
    "csv": export_csv,
    "tensorboard": export_tensorboard,
    "mlflow": export_mlflow,
    "wandb": export_wandb,
}
