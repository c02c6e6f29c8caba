"""Where the runs of a report come from: data, weights, versions, hardware, commits, time."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn import __version__
from tlcnn.errors import DataError
from tlcnn.records.environment import Sitting, read_sittings
from tlcnn.records.plan_record import PlanRecord, read_plan

Section = tuple[str, tuple[tuple[str, str], ...]]


def make_provenance(runs: pd.DataFrame, cells: pd.DataFrame) -> tuple[Section, ...]:
    """Return sections of (name, value): data, weights, software, hardware, effort.

    Args:
        runs: of `read_runs`; the finished ones are described.
        cells: of `make_cells`.
    """
    done = runs[runs["state"] == "done"]
    plans = [read_plan(f[0][0]) for f in cells["folders"] if f and f[0]]
    sittings = [sitting for folder in done["folder"] for sitting in _read_sittings(folder)]
    return (
        ("data", tuple(sorted(set(_describe_data(plans))))),
        ("weights", tuple(sorted(set(_describe_weights(plans))))),
        ("software", tuple(_describe_software(sittings))),
        ("hardware", tuple(_describe_hardware(sittings))),
        ("effort", tuple(_describe_effort(done, sittings))),
    )


def _read_sittings(folder: str) -> tuple[Sitting, ...]:
    try:
        return read_sittings(folder)
    except DataError:
        return ()


def _describe_data(plans: Iterable[PlanRecord]) -> Iterable[tuple[str, str]]:
    for plan in plans:
        parts = [f"{split} {plan.count_images(split):,}" for split in plan.split_sizes]
        parts += [f"{plan.image_size} px"] if plan.image_size else []
        parts += [f"manifest {plan.manifest[:12]}"] if plan.manifest else []
        if parts:
            yield plan.dataset, ", ".join(parts)


def _describe_weights(plans: Iterable[PlanRecord]) -> Iterable[tuple[str, str]]:
    for plan in plans:
        if plan.weights is None or plan.weights_digest.startswith("run:"):
            continue  # a run of its own, with a row of its own
        parts = [Path(plan.weights.origin).name or plan.weights.tag]
        parts += [f"digest {plan.weights_digest[:12]}"] if plan.weights_digest else []
        yield f"{'-'.join(plan.source)} ({plan.model})", ", ".join(parts)


def _describe_software(sittings: list[Sitting]) -> Iterable[tuple[str, str]]:
    yield "this report", f"tlcnn {__version__}"
    yield "commit", _tell_counts(sitting.commit or "installed" for sitting in sittings)
    yield "python", _tell_counts(sitting.python for sitting in sittings)
    for name in sorted({name for sitting in sittings for name in sitting.packages}):
        yield name, _tell_counts(sitting.packages.get(name) for sitting in sittings)


def _describe_hardware(sittings: list[Sitting]) -> Iterable[tuple[str, str]]:
    for name in ("device", "hardware", "platform", "threads"):
        yield name, _tell_counts(getattr(sitting, name) for sitting in sittings)


def _describe_effort(done: pd.DataFrame, sittings: list[Sitting]) -> Iterable[tuple[str, str]]:
    yield "finished runs", f"{len(done):,}, in {len(sittings):,} sittings"
    if "train_s" in done:
        yield "time in training", f"{done['train_s'].sum() / 3600:.2f} h"


def _tell_counts(values: Iterable[Any]) -> str:
    """Return the one value there is, or each with how often it occurs."""
    counts = Counter(str(value) for value in values if value is not None)
    if len(counts) <= 1:
        return next(iter(counts), "unknown")
    return ", ".join(f"{value} ({n} runs)" for value, n in counts.most_common())
