"""Runs of a sweep whose frozen units compute the same, so that they share stored outputs."""

from collections import Counter
from collections.abc import Sequence

from tlcnn.errors import DataError
from tlcnn.records.summary import read_summary
from tlcnn.sweep.resolve import SweepRun
from tlcnn.text import count


def order_by_source(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """Return the runs of a wave so that those of one source follow each other.

    What the first of them stores is then read while it is in memory. Parents stay first. The runs
    of a source come where its first run was, in the order of how many units they freeze.
    """
    keys = [run.source_key or run.run_id for run in runs]

    def place(run: SweepRun) -> tuple[bool, int, int]:
        first = keys.index(run.source_key or run.run_id)
        return run.role == "cell", first, run.plan.treatment.depth

    return sorted(runs, key=place)


def find_shared_depths(run: SweepRun, runs: Sequence[SweepRun]) -> tuple[int, ...]:
    """Return how many units each run freezes that shares this one's source; () if none does."""
    if run.source_key is None:
        return ()
    depths = sorted(r.plan.treatment.depth for r in runs if r.source_key == run.source_key)
    return tuple(depths) if len(depths) > 1 else ()


def describe_sharing(runs: Sequence[SweepRun]) -> list[str]:
    """Return a line that says how many runs can read stored outputs of each other."""
    counts = Counter(run.source_key for run in runs if run.source_key is not None)
    shared = [n for n in counts.values() if n > 1]
    if not shared:
        return []
    text = f"{count(sum(shared), 'run')} share the outputs of frozen units"
    return [f"  {text}, from {count(len(shared), 'source')}"]


def describe_reused(runs: Sequence[SweepRun]) -> list[str]:
    """Return a line: what frozen units computed, and how often stored outputs were read."""
    total: Counter[str] = Counter()
    for run in runs:
        try:
            total.update(read_summary(run.run_dir).reuse or {})
        except (DataError, TypeError):
            continue
    computed, reused = total["images_computed"], total["images_reused"]
    counts = f"computed for {count(computed, 'image')}, read from the store for {reused:,}"
    return [f"  outputs of frozen units: {counts}"] if reused else []
