"""Where the runs of a report come from: data, weights, versions, hardware, commits, time."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn import __version__
from tlcnn.study.plan_facts import read_plan

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


def _read_sittings(folder: str) -> list[dict[str, Any]]:
    try:
        found = json.loads((Path(folder) / "environment.json").read_text())["sittings"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [sitting for sitting in found if isinstance(sitting, dict)]


def _describe_data(plans: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for plan in plans:
        facts = plan.get("identity", {}).get("dataset", {})
        sizes = {split: sum(n.values()) for split, n in plan.get("split_sizes", {}).items()}
        told = [f"{name} {n:,}" for name, n in sizes.items()]
        told += [f"{facts['image_size']} px"] if "image_size" in facts else []
        told += [f"manifest {facts['manifest'][:12]}"] if "manifest" in facts else []
        if told:
            yield str(plan.get("dataset")), ", ".join(told)


def _describe_weights(plans: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for plan in plans:
        source, digest = plan.get("weights") or {}, plan.get("identity", {}).get("init", {})
        if not source or str(digest.get("digest", "")).startswith("run:"):
            continue  # a run of its own, with a row of its own
        told = [Path(str(source.get("origin", ""))).name or str(source.get("tag", ""))]
        told += [f"digest {str(digest['digest'])[:12]}"] if digest.get("digest") else []
        yield f"{plan.get('init')} ({plan.get('model')})", ", ".join(told)


def _describe_software(sittings: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    yield "this report", f"tlcnn {__version__}"
    yield "commit", _tell_counts(sitting.get("commit") or "installed" for sitting in sittings)
    yield "python", _tell_counts(sitting.get("python") for sitting in sittings)
    names = sorted({name for sitting in sittings for name in sitting.get("packages", {})})
    for name in names:
        yield name, _tell_counts(sitting.get("packages", {}).get(name) for sitting in sittings)


def _describe_hardware(sittings: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    for name in ("device", "hardware", "platform", "threads"):
        yield name, _tell_counts(sitting.get(name) for sitting in sittings)


def _describe_effort(
    done: pd.DataFrame, sittings: list[dict[str, Any]]
) -> Iterable[tuple[str, str]]:
    yield "finished runs", f"{len(done):,}, in {len(sittings):,} sittings"
    if "train_s" in done:
        yield "time in training", f"{done['train_s'].sum() / 3600:.2f} h"


def _tell_counts(values: Iterable[Any]) -> str:
    """Return the one value there is, or each with how often it occurs."""
    counts = Counter(str(value) for value in values if value is not None)
    if len(counts) <= 1:
        return next(iter(counts), "unknown")
    return ", ".join(f"{value} ({n} runs)" for value, n in counts.most_common())
