"""What a run writes into its folder: before its first step, after every epoch, and at its end."""

import logging
import time
from dataclasses import asdict
from typing import Any

import torch

from tlcnn.data.dataset import find_root
from tlcnn.data.index import UNUSED
from tlcnn.memory import Memory
from tlcnn.plan.ancestry import collect_seen
from tlcnn.plan.describe import make_plan_record
from tlcnn.plan.plan import Plan
from tlcnn.records.environment import add_session, make_session
from tlcnn.records.files import INIT, SEEN, SPLITS
from tlcnn.records.folder import RunDir
from tlcnn.records.plan_record import write_plan
from tlcnn.records.summary import Summary, write_summary
from tlcnn.records.weights import write_weights
from tlcnn.records.write import make_parquet, make_splits_file, write_predictions
from tlcnn.run.inputs import TrainedPart, describe_counts
from tlcnn.run.network import InitialNetwork
from tlcnn.statistics.metrics import compute_scores
from tlcnn.storage import write_atomic
from tlcnn.training.evaluate import compute_logits
from tlcnn.training.interrupt import StopRequest
from tlcnn.training.state import Network, Position

log = logging.getLogger(__name__)


def write_start(plan: Plan, folder: RunDir, initial: InitialNetwork, memory: Memory) -> None:
    """Write what is known before the first step: plan, configuration, splits, sources."""
    write_plan(folder.path, make_plan_record(plan))
    # Earlier versions refuse a config.yaml with keys that they do not have.
    config = {key: value for key, value in asdict(plan.config).items() if key != "logger"}
    folder.write_config(config)
    folder.write_json(INIT, asdict(initial.report))
    session = make_session(
        device=plan.device.name, hardware=plan.device.hardware, threads=torch.get_num_threads()
    )
    changes = add_session(folder.path, session)
    if changes:
        log.warning("resumed elsewhere, so not to the same bits: %s", "; ".join(changes))
    dataset = plan.dataset
    content = memory.recall(
        "splits file",
        (find_root(plan.config.dataset), dataset.index.name, dataset.manifest),
        lambda: make_splits_file(dataset.index, dataset.splits, dataset.digests),
        n_kept=1,
    )
    write_atomic(folder.path / SPLITS, content, durable=False)
    if plan.ancestry:  # at once on the disk: the folders that it is read from may go
        seen = collect_seen(plan.ancestry, folder.path)
        write_atomic(folder.path / SEEN, make_parquet(seen))


def write_epoch(plan: Plan, folder: RunDir, history: list[dict[str, Any]]) -> None:
    """Write the records of the finished epochs, and log the last one."""
    folder.write_metrics(history)
    if history:
        last, n_epochs = history[-1], plan.config.train.epochs
        log.info(
            f"epoch {last['epoch']}/{n_epochs}  loss {last['train/loss']:.4f}  "
            f"val balanced accuracy {last['val/balanced_accuracy']:.4f}  "
            f"{last['images_per_s']:,.0f} images/s"
        )


def write_results(
    plan: Plan,
    folder: RunDir,
    network: Network,
    inputs: TrainedPart,
    position: Position,
    response: float | None,
    stop: StopRequest,
) -> Summary:
    """Read the test images once; write predictions, weights, summary and DONE.

    Args:
        response: what `measure_response` returned.

    Raises:
        Stopped: a signal came; nothing is written.
        Diverged: a logit is not finite.
    """
    index, splits = plan.dataset.index, inputs.splits
    metrics: dict[str, float] = {}
    logits = {}
    for split in ("val", "test"):
        images = splits[split]
        logits[split] = compute_logits(
            network.trained,
            images,
            batch_size=plan.config.eval_batch_size,
            precision=plan.precision,
            check_stop=stop.check,
        )
        truth, groups = index.truth[images.rows], index.table["group"].to_numpy()[images.rows]
        names, positive = index.classes, index.positive
        scores = compute_scores(
            index.task, logits[split], truth, groups, classes=names, positive=positive
        )
        metrics |= {f"{split}/{name}": value for name, value in scores.items()}
    split_rows = {split: splits[split].rows for split in logits}
    n_usable = int((plan.dataset.splits != UNUSED).sum())
    write_predictions(folder.path, index.table, split_rows, logits, index.classes, index.targets)
    write_weights(folder.path, network.model, make_plan_record(plan))
    if inputs.counts is not None:
        log.info("%s", describe_counts(inputs.counts))
    history = position.history
    train_s = sum(record["train_s"] for record in history)
    n_images = sum(record["images_per_s"] * record["train_s"] for record in history)
    summary = Summary(
        metrics=metrics,
        run_id=plan.run_id,
        epochs=len(history),
        best_epoch=position.best_epoch,
        steps=history[-1]["step"],
        train_s=round(train_s, 3),
        images_per_s=round(n_images / max(train_s, 1e-9), 1),
        n_skipped_images=n_usable - sum(len(split) for split in splits.values()),
        finished=time.strftime("%Y-%m-%d %H:%M:%S"),
        reuse=None if inputs.counts is None else asdict(inputs.counts),
        frozen_response=response,
    )
    write_summary(folder.path, summary)
    folder.write_done(plan.run_id)
    folder.delete_leftovers()
    log.info(
        f"test, at epoch {summary.best_epoch} (best on validation): "
        f"balanced accuracy {metrics['test/balanced_accuracy']:.4f}, "
        f"macro AUROC {metrics['test/macro_auroc']:.4f}, accuracy {metrics['test/accuracy']:.4f}\n"
        f"done: {folder.path}"
    )
    return summary
