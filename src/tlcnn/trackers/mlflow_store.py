"""Runs in MLflow: in a database file in a folder, or where a tracking URI leads."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlcnn.storage import make_dir
from tlcnn.trackers.place import check_package
from tlcnn.trackers.tracked_run import TrackedRun

_RUN_ID, _DIGEST = "tlcnn.run_id", "tlcnn.digest"
_BATCH = {"metrics": 1000, "params": 100}  # the most that MLflow takes at once
_MAX_TEXT = 6000


def export_mlflow(runs: Sequence[TrackedRun], output: str, project: str) -> Iterator[bool]:
    """Log each run that is new or has changed, in an experiment with the name of the project.

    A run that has changed replaces the earlier one, which MLflow keeps among the deleted ones.

    Args:
        output: a folder, or a tracking URI such as http://localhost:5000.
    """
    check_package("mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=make_uri(output))
    experiment = client.get_experiment_by_name(project)
    if experiment is not None:
        experiment_id = experiment.experiment_id
    else:
        artifacts = None if "://" in output else (Path(output).absolute() / "artifacts").as_uri()
        experiment_id = client.create_experiment(project, artifact_location=artifacts)
    for run in runs:
        condition = f"tags.`{_RUN_ID}` = '{run.run_id}'"
        earlier = client.search_runs([experiment_id], filter_string=condition)
        is_new = all(item.data.tags.get(_DIGEST) != run.digest for item in earlier)
        if is_new:
            for item in earlier:
                client.delete_run(item.info.run_id)
            _log_run(client, experiment_id, run)
        yield is_new


def make_uri(output: str) -> str:
    """Return the URI of a database in a folder; a tracking URI is returned as it is."""
    if "://" in output:
        return output
    return f"sqlite:///{make_dir(Path(output)).absolute() / 'mlflow.db'}"


def _log_run(client: Any, experiment_id: str, run: TrackedRun) -> None:
    """Log a run; the digest comes last, so that a run that was interrupted is logged again."""
    from mlflow.entities import Metric, Param

    tags = {_RUN_ID: run.run_id, "tlcnn.cell_id": run.cell_id}
    tags |= {name: str(value) for name, value in run.tags.items()}
    created = client.create_run(
        experiment_id, start_time=int(run.begun * 1000), tags=tags, run_name=run.name
    )
    run_id = created.info.run_id

    def make_metrics(values: Mapping[str, float], seconds: float, step: int) -> list[Metric]:
        millis = int(seconds * 1000)
        return [Metric(_clean(name), value, millis, step) for name, value in values.items()]

    entries = {
        "params": [Param(_clean(k), str(value)[:_MAX_TEXT]) for k, value in run.config.items()],
        "metrics": [
            metric for e in run.epochs for metric in make_metrics(e.values, e.seconds, e.step)
        ],
    }
    last_step = run.epochs[-1].step if run.epochs else 0
    final = {f"final/{name}": value for name, value in run.metrics.items()}
    entries["metrics"] += make_metrics(final, run.finished, last_step)
    for kind, values in entries.items():
        for start in range(0, len(values), _BATCH[kind]):
            client.log_batch(run_id, **{kind: values[start : start + _BATCH[kind]]})
    client.set_tag(run_id, _DIGEST, run.digest)
    client.set_terminated(run_id, end_time=int(run.finished * 1000))


def _clean(name: str) -> str:
    """Return a name with the characters that MLflow allows."""
    return re.sub(r"[^\w. /:-]", "_", name)
