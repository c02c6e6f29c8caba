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
        runs: what `read_runs` returned; the finished runs are described.
        cells: what `make_cells` returned.
    """
    done = runs[runs["state"] == "done"]
    plans = [read_plan(folders[0][0]) for folders in cells["folders"] if folders and folders[0]]
    sittings = [sitting for folder in done["folder"] for sitting in _read_sittings(folder)]
    packages = sorted({name for sitting in sittings for name in sitting.packages})
    software = [
        ("this report", f"tlcnn {__version__}"),
        ("commit", _count_values(sitting.commit or "installed" for sitting in sittings)),
        ("python", _count_values(sitting.python for sitting in sittings)),
        *(
            (name, _count_values(sitting.packages.get(name) for sitting in sittings))
            for name in packages
        ),
    ]
    hardware = [
        (name, _count_values(getattr(sitting, name) for sitting in sittings))
        for name in ("device", "hardware", "platform", "threads")
    ]
    effort = [("finished runs", f"{len(done):,}, in {len(sittings):,} sittings")]
    if "train_s" in done:
        effort.append(("time in training", f"{done['train_s'].sum() / 3600:.2f} h"))
    return (
        ("data", tuple(sorted(set(_describe_data(plans))))),
        ("weights", tuple(sorted(set(_describe_weights(plans))))),
        ("software", tuple(software)),
        ("hardware", tuple(hardware)),
        ("effort", tuple(effort)),
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
            continue  # the weights of a run, which has a row of its own
        parts = [Path(plan.weights.origin).name or plan.weights.tag]
        parts += [f"digest {plan.weights_digest[:12]}"] if plan.weights_digest else []
        yield f"{'-'.join(plan.source)} ({plan.model})", ", ".join(parts)


def _count_values(values: Iterable[Any]) -> str:
    """Return the only value, or each value with the number of runs that have it."""
    counts = Counter(str(value) for value in values if value is not None)
    if len(counts) <= 1:
        return next(iter(counts), "unknown")
    return ", ".join(f"{value} ({n} runs)" for value, n in counts.most_common())
