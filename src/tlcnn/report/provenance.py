"""Where the runs of a report come from: data, weights, versions, hardware, commits, time."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn import __version__
from tlcnn.study.cells import read_plan

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
    packages = sorted({name for sitting in sittings for name in sitting.get("packages", {})})
    software = [
        ("this report", f"tlcnn {__version__}"),
        ("commit", _count_values(sitting.get("commit") or "installed" for sitting in sittings)),
        ("python", _count_values(sitting.get("python") for sitting in sittings)),
        *(
            (name, _count_values(sitting.get("packages", {}).get(name) for sitting in sittings))
            for name in packages
        ),
    ]
    hardware = [
        (name, _count_values(sitting.get(name) for sitting in sittings))
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


def _read_sittings(folder: str) -> list[dict[str, Any]]:
    try:
        sittings = json.loads((Path(folder) / "environment.json").read_text())["sittings"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [sitting for sitting in sittings if isinstance(sitting, dict)]


def _describe_data(plans: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for plan in plans:
        identity = plan.get("identity", {}).get("dataset", {})
        sizes = {split: sum(n.values()) for split, n in plan.get("split_sizes", {}).items()}
        parts = [f"{name} {n:,}" for name, n in sizes.items()]
        parts += [f"{identity['image_size']} px"] if "image_size" in identity else []
        parts += [f"manifest {identity['manifest'][:12]}"] if "manifest" in identity else []
        if parts:
            yield str(plan.get("dataset")), ", ".join(parts)


def _describe_weights(plans: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    for plan in plans:
        weights, identity = plan.get("weights") or {}, plan.get("identity", {}).get("init", {})
        digest = str(identity.get("digest") or "")
        if not weights or digest.startswith("run:"):
            continue  # the weights of a run, which has a row of its own
        name = Path(str(weights.get("origin", ""))).name or str(weights.get("tag", ""))
        parts = [name, *([f"digest {digest[:12]}"] if digest else [])]
        yield f"{plan.get('init')} ({plan.get('model')})", ", ".join(parts)


def _count_values(values: Iterable[Any]) -> str:
    """Return the only value, or each value with the number of runs that have it."""
    counts = Counter(str(value) for value in values if value is not None)
    if len(counts) <= 1:
        return next(iter(counts), "unknown")
    return ", ".join(f"{value} ({n} runs)" for value, n in counts.most_common())
