"""Runs of a sweep whose frozen units have outputs in common: together, and told of each other."""

from collections import Counter
from collections.abc import Sequence

from tlcnn.errors import DataError
from tlcnn.records.summary import read_summary
from tlcnn.sweep.resolve import Job


def order_by_source(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of a wave in an order in which stored outputs are used while they are hot.

    Parents stay first. Behind them jobs of one source follow each other from the first of them,
    those with fewer frozen units before the others; all else stays where it was.
    """
    first: dict[str, int] = {}
    for position, job in enumerate(jobs):
        first.setdefault(job.source_key or job.run_id, position)

    def place(job: Job) -> tuple[bool, int, int]:
        return job.role == "cell", first[job.source_key or job.run_id], job.n_frozen

    return sorted(jobs, key=place)


def write_sharing(job: Job, jobs: Sequence[Job]) -> list[str]:
    """Return the word that tells a job how many units those freeze that share its source."""
    if job.source_key is None:
        return []
    frozen = sorted(other.n_frozen for other in jobs if other.source_key == job.source_key)
    return [f"reuse_for=[{','.join(map(str, frozen))}]"] if len(frozen) > 1 else []


def describe_sharing(jobs: Sequence[Job]) -> list[str]:
    """Return in words how many jobs have outputs of frozen units in common."""
    keys = [job.source_key for job in jobs if job.source_key is not None]
    shared = [key for key in keys if keys.count(key) > 1]
    if not shared:
        return []
    sources = f"{len(set(shared))} source{'s' * (len(set(shared)) > 1)}"
    return [f"  {len(shared)} runs share what the frozen units of {sources} compute"]


def describe_reused(jobs: Sequence[Job]) -> list[str]:
    """Return in words what the frozen units of finished runs computed, and what was read."""
    total: Counter[str] = Counter()
    for job in jobs:
        try:
            total.update(read_summary(job.run_dir).reuse or {})
        except (DataError, TypeError):
            continue
    computed, reused = total["images_computed"], total["images_reused"]
    if not reused:
        return []
    return [f"  frozen units computed {computed:,} images; {reused:,} times one was reused"]
