"""Where the runs of a report come from: data, weights, versions, hardware, commits, time."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn import __version__
from tlcnn.errors import DataError
from tlcnn.records.environment import Session, read_sessions
from tlcnn.records.plan_record import PlanRecord, read_plan

Section = tuple[str, tuple[tuple[str, str], ...]]


def make_provenance(runs: pd.DataFrame, cells: pd.DataFrame) -> tuple[Section, ...]:
    """Return sections of (name, value) on finished runs: data, weights, software, ..."""
    done = runs[runs["state"] == "done"]
    plans = [read_plan(folders[0][0]) for folders in cells["folders"] if folders and folders[0]]
    sessions = [session for folder in done["folder"] for session in _read_sessions(folder)]
    packages = sorted({name for session in sessions for name in session.packages})
    software = [
        ("this report", f"tlcnn {__version__}"),
        ("commit", _count_values(session.commit or "unknown" for session in sessions)),
        ("python", _count_values(session.python for session in sessions)),
    ]
    software += [
        (name, _count_values(s.packages.get(name) for s in sessions)) for name in packages
    ]
    hardware = [
        (name, _count_values(getattr(session, name) for session in sessions))
        for name in ("device", "hardware", "platform", "threads")
    ]
    effort = [("finished runs", f"{len(done):,}, in {len(sessions):,} sessions")]
    if "train_s" in done:
        effort.append(("time in training", f"{done['train_s'].sum() / 3600:.2f} h"))
    sections = (
        ("data", tuple(sorted(set(_describe_data(plans))))),
        ("weights", tuple(sorted(set(_describe_weights(plans))))),
        ("software", tuple(software)),
        ("hardware", tuple(hardware)),
        ("training time", tuple(effort)),
    )
    return tuple(section for section in sections if section[1])


def _read_sessions(folder: str) -> tuple[Session, ...]:
    try:
        return read_sessions(folder)
    except DataError:
        return ()


def _describe_data(plans: Iterable[PlanRecord]) -> Iterable[tuple[str, str]]:
    for plan in plans:
        parts = [f"{split} {plan.count_images(split):,}" for split in plan.split_sizes]
        parts += [f"{plan.image_size} px"] if plan.image_size else []
        parts += [f"digest {plan.manifest[:12]}"] if plan.manifest else []
        if parts:
            yield plan.dataset, ", ".join(parts)
        if not plan.imported:
            yield from ((plan.dataset, note) for note in plan.notes)


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
