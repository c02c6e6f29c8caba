"""What a run does once its folder is held: images, model, training, test, records."""

import logging
import os
import time
from collections.abc import Collection
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tlcnn.data.ahead import Ahead, gather, is_beyond_memory
from tlcnn.data.augment import make_image_keys, make_image_tensor
from tlcnn.data.batches import Batches
from tlcnn.data.cache import ImageCache, load_image_cache
from tlcnn.data.dataset import find_root
from tlcnn.data.index import SPLITS
from tlcnn.data.splits import check_splits
from tlcnn.device import count_cores, find_room
from tlcnn.errors import DataError, Stopped, list_names
from tlcnn.frozen.frozen_units import ReuseCounts
from tlcnn.memory import Memory
from tlcnn.model.freeze import apply_freeze, check_frozen, snapshot_frozen
from tlcnn.plan.ancestry import collect_seen
from tlcnn.plan.describe import describe_plan, plan_record
from tlcnn.plan.plan import Plan
from tlcnn.records.environment import add_sitting, make_sitting
from tlcnn.records.folder import RunDir
from tlcnn.records.plan_record import write_plan
from tlcnn.records.summary import Summary, write_summary
from tlcnn.records.weights import write_weights
from tlcnn.records.write import make_splits_file, write_predictions, write_seen, write_splits
from tlcnn.run.inputs import TrainedPart, build_inputs, describe_counts
from tlcnn.run.network import Start
from tlcnn.training.evaluate import compute_logits
from tlcnn.training.fit import Fit
from tlcnn.training.interrupt import StopRequest
from tlcnn.training.recipe import Position, Recipe
from tlcnn.training.tasks import find_task

log = logging.getLogger(__name__)


def train(
    plan: Plan, start: Start, folder: RunDir, stop: StopRequest, memory: Memory
) -> dict[str, Any]:
    """Train what the plan says, in a folder that this process holds, and return the summary."""
    threads = apply_flags(plan)
    _write_start(plan, folder, threads, memory)
    log.info("%s", describe_plan(plan))
    folder.write_json("init.json", asdict(start.report))
    splits = load_batches(plan, stop, memory)
    model = start.model.to(splits["train"].device)
    bn = plan.config.freeze.bn
    apply_freeze(model, plan.unit_map, plan.treatment.j, bn=bn)
    promise = snapshot_frozen(model, plan.unit_map, plan.treatment.j, bn=bn)
    fed = build_inputs(plan, model, splits, memory, stop)
    fit = _build_fit(plan, folder, stop, model, fed, promise)
    fitted = fit.run()
    check_frozen(model, promise)
    try:
        summary = _write_results(plan, folder, stop, model, fed, fitted)
    except Stopped:
        fit.save()  # so that only the evaluation is repeated
        raise
    folder.write_done(plan.run_id)
    folder.delete_leftovers()
    log.info("%s\ndone: %s", _describe_result(summary), folder.path)
    return asdict(summary)


def apply_flags(plan: Plan) -> int:
    """Set what torch keeps per process, and return the number of CPU threads.

    On a GPU the algorithms are the deterministic ones; torch names those that have none.
    """
    threads = plan.config.threads or count_cores()
    torch.set_num_threads(threads)
    if plan.device.name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        # It would overwrite all memory before it is used; nothing here reads what it has not set.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return threads


def _write_start(plan: Plan, folder: RunDir, threads: int, memory: Memory) -> None:
    write_plan(folder.path, plan_record(plan))
    folder.write_config(asdict(plan.config))
    device = plan.device
    sitting = make_sitting(device=device.name, hardware=device.hardware, threads=threads)
    changes = add_sitting(folder.path, sitting)
    if changes:
        log.warning("resumed elsewhere, so not to the same bits: %s", "; ".join(changes))
    images = plan.dataset
    content = memory.recall(
        "splits file",
        (find_root(plan.config.dataset), images.index.name, images.manifest),
        lambda: make_splits_file(images.index, images.splits, images.digests),
        n_kept=1,
    )
    write_splits(folder.path, content)
    if plan.ancestry:
        write_seen(folder.path, collect_seen(plan.ancestry, folder.path))


def load_batches(plan: Plan, stop: StopRequest, memory: Memory) -> dict[str, Batches]:
    """Return the images of every split, decoded, and on the device where they fit."""
    cfg, index, splits = plan.config, plan.dataset.index, plan.dataset.splits
    check_splits(index.table["group"].to_numpy(), splits)
    cache = _recall_cache(plan, stop, memory)
    if cache.bad:
        ids = index.table["image_id"].iloc[list(cache.bad)].tolist()
        log.warning("skipped %d images that cannot be decoded: %s", len(ids), list_names(ids))
    device = torch.device(plan.device.name)
    key = (
        find_root(cfg.dataset),
        plan.dataset.manifest,
        cfg.dataset.image_size,
        cfg.dataset.fit,
        cfg.dataset.decode,
        str(device),
    )
    pixels = memory.recall("pixels", key, lambda: _place(cache.array, device), n_kept=1)
    ahead = _build_ahead(pixels, device)
    keys = memory.recall(
        "image keys",
        key[:2],
        lambda: make_image_keys(index.table["image_id"].tolist()),
        n_kept=1,
    )
    usable = ~np.isin(np.arange(len(index)), cache.bad)
    batches = {}
    for split in SPLITS:
        rows = np.flatnonzero((splits == split) & usable)
        batches[split] = Batches(
            pixels=pixels,
            rows=rows,
            labels=torch.from_numpy(index.truth[rows].astype(np.int64)).to(device),
            keys=keys[rows],
            image_size=cfg.dataset.image_size,
            normalize=cfg.dataset.normalize,
            ahead=ahead,
        )
    _check_sizes(batches)
    return batches


def _recall_cache(plan: Plan, stop: StopRequest, memory: Memory) -> ImageCache:
    """Return the decoded images; the file is checked once a process, not once a run."""
    cfg = plan.config

    def load() -> ImageCache:
        return load_image_cache(
            plan.dataset.index.images,
            digests=plan.dataset.digests,
            image_size=cfg.dataset.image_size,
            fit=cfg.dataset.fit,
            decode=cfg.dataset.decode,
            cache_dir=plan.cache_dir,
            workers=cfg.workers or count_cores(),
            progress=cfg.progress,
            on_bad=cfg.dataset.on_bad,
            should_stop=lambda: bool(stop),
            ids=plan.dataset.index.table["image_id"].tolist(),
        )

    dataset = (find_root(cfg.dataset), plan.dataset.manifest, str(plan.cache_dir))
    data = cfg.dataset
    settings = (data.image_size, data.fit, data.decode, data.on_bad)
    return memory.recall("decoded", (*dataset, *settings), load, n_kept=1)


def _place(array: np.ndarray, device: torch.device) -> np.ndarray | torch.Tensor:
    """Return the images on a GPU where they take at most half of this process's share of it."""
    if device.type != "cuda" or array.nbytes > find_room(device):
        return array
    return make_image_tensor(array).to(device)


def _build_ahead(pixels: np.ndarray | torch.Tensor, device: torch.device) -> Ahead | None:
    """Return what gathers images while others are computed, where a gather has to wait."""
    if isinstance(pixels, torch.Tensor) or (
        device.type != "cuda" and not is_beyond_memory(pixels.nbytes)
    ):
        return None
    return Ahead(partial(gather, pixels, is_pinned=device.type == "cuda"))


def _check_sizes(batches: dict[str, Batches]) -> None:
    for split, batch in batches.items():
        if len(batch) < 2:
            raise DataError(
                f"the {split} split has {len(batch)} images; at least 2 are needed. Change "
                "dataset.val_fraction, dataset.test_fraction or dataset.folds."
            )


def _build_fit(
    plan: Plan,
    folder: RunDir,
    stop: StopRequest,
    model: nn.Module,
    fed: TrainedPart,
    fixed: Collection[str],
) -> Fit:
    def on_epoch(history: list[dict[str, Any]]) -> None:
        folder.write_metrics(history)
        if history:
            log.info("%s", _describe_epoch(history[-1], plan.config.train.epochs))

    return Fit(
        model,
        fed.splits["train"],
        fed.splits["val"],
        Recipe(**plan.identity["train"]),
        trained=fed.trained,
        fixed=fixed,
        run_dir=folder.path,
        run_id=plan.run_id,
        n_classes=len(plan.dataset.index.classes),
        task=plan.dataset.index.task,
        seed=plan.config.seed,
        eval_batch_size=plan.config.eval_batch_size,
        checkpoint_every_s=plan.config.checkpoint_every_s,
        progress=plan.config.progress,
        stop=stop,
        on_epoch=on_epoch,
    )


def _write_results(
    plan: Plan,
    folder: RunDir,
    stop: StopRequest,
    model: nn.Module,
    fed: TrainedPart,
    fitted: Position,
) -> Summary:
    """Read the test images once, and write predictions, weights and summary."""
    index, splits = plan.dataset.index, fed.splits
    classes, table = index.classes, index.table
    metrics: dict[str, float] = {}
    logits = {}
    for split in ("val", "test"):
        logits[split] = compute_logits(
            fed.trained,
            splits[split],
            batch_size=plan.config.eval_batch_size,
            precision=plan.precision,
            check_stop=stop.check,
        )
        picked = splits[split].rows
        scores = find_task(index.task).compute_scores(
            logits[split],
            index.truth[picked],
            table["group"].to_numpy()[picked],
            classes=classes,
            positive=index.positive,
        )
        metrics |= {f"{split}/{name}": value for name, value in scores.items()}
    rows = {split: splits[split].rows for split in logits}
    write_predictions(folder.path, table, rows, logits, classes, index.targets)
    write_weights(folder.path, model, plan_record(plan))
    n_used = sum(len(batch) for batch in splits.values())
    if fed.counts is not None:
        log.info("%s", describe_counts(fed.counts))
    summary = _make_summary(plan, fitted, metrics, n_used, fed.counts)
    write_summary(folder.path, summary)
    return summary


def _make_summary(
    plan: Plan,
    fitted: Position,
    metrics: dict[str, float],
    n_used: int,
    counts: ReuseCounts | None,
) -> Summary:
    train_s = sum(record["train_s"] for record in fitted.history)
    n_images = sum(record["images_per_s"] * record["train_s"] for record in fitted.history)
    return Summary(
        metrics=metrics,
        run_id=plan.run_id,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        steps=fitted.history[-1]["step"],
        train_s=round(train_s, 3),
        images_per_s=round(n_images / max(train_s, 1e-9), 1),
        n_skipped_images=len(plan.dataset.index) - n_used,
        finished=time.strftime("%Y-%m-%d %H:%M:%S"),
        reuse=None if counts is None else asdict(counts),
    )


def _describe_epoch(record: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {record['epoch']}/{epochs}  loss {record['train/loss']:.4f}  "
        f"val balanced accuracy {record['val/balanced_accuracy']:.4f}  "
        f"{record['images_per_s']:,.0f} images/s"
    )


def _describe_result(summary: Summary) -> str:
    metrics = summary.metrics
    return (
        f"test, at epoch {summary.best_epoch} (best on validation): balanced accuracy "
        f"{metrics['test/balanced_accuracy']:.4f}, macro AUROC {metrics['test/macro_auroc']:.4f}, "
        f"accuracy {metrics['test/accuracy']:.4f}"
    )
