"""The families of a planted study: networks A and B that share m units, or whose tasks do.

Trainings with frozen units are the oracle. They say what A's units cost the task of B, and so how
many of them serve it as well as B's.

runs -> cells that start from A or from B -> S*(n), F*(n) -> the depth n*
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tlcnn.errors import DataError
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.estimate import estimate_contrast
from tlcnn.study.arms import load_arms
from tlcnn.study.cells import Cell, make_cells
from tlcnn.study.runs import Run

METRIC = "test/balanced_accuracy"
POINTS = 100.0  # a score of 1 in points
CUE = "dataset.options.cue"
JOINT = "both"  # the cue of J, from which A and B have their common units
TAUGHT = ("source", "target")  # cues of tasks that share the first units of a teacher
SHARED = "dataset.options.shared"  # how many
NETWORKS, TASKS = "networks", "tasks"  # what shares its first units
# What was varied in the training of A: its name in tables, and the key of the setting.
FACTORS = {
    "images": "dataset.options.n_images",
    "epochs": "train.epochs",
    "label noise": "dataset.options.label_noise",
    "block": "dataset.options.block",
}


@dataclass(frozen=True)
class Trio:
    """The runs of one seed that an analysis compares.

    Attributes:
        run: A, fine-tuned as a whole on B's task.
        own: B.
        twin: B of another seed, with the same m units; None without one.
    """

    run: Run
    own: Run
    twin: Run | None


@dataclass(frozen=True)
class Family:
    """One network, one m, and one way of training A, over all seeds.

    Attributes:
        plant: NETWORKS where A and B have the same units up to m; TASKS where labels of both tasks
            are computed with the same m units of a teacher.
        m: the units that they share by construction.
        cue: the cue of A's task.
        factors: how A was trained, by the names of FACTORS.
        changed: the factors that differ from those of most families.
        is_same_task: A learnt B's own task, on another draw of images; nothing is specific.
        specificity: S*(n) = M(BnB) - M(AnB) in points, n = 1..L.
        cost: F*(n) = M(A, trained on as a whole) - M(A, n units frozen) in points, n = 1..L. The
            units above n are A's where that was trained, and else they are drawn fresh. Empty
            without the first.
    """

    model: str
    m: int
    cue: str
    factors: Mapping[str, Any]
    is_same_task: bool
    specificity: Mapping[int, Estimate]
    cost: Mapping[int, Estimate]
    trios: tuple[Trio, ...] = ()
    changed: Mapping[str, Any] = field(default_factory=dict)
    plant: str = NETWORKS

    @property
    def n_units(self) -> int:
        """The number of units L."""
        return len(self.specificity)

    @property
    def name(self) -> str:
        """A name that is unique in a study."""
        changes = [f"{name} {value}" for name, value in self.changed.items()]
        task = ["shared tasks"] if self.plant == TASKS else []
        task += ["same task"] if self.is_same_task else []
        return ", ".join([self.model, f"m = {self.m}", *task, *changes])

    def find_depth(self, margin: float) -> int:
        """Return n*: the largest n with S*(n') below the margin, in points, for all n' <= n."""
        above = [n for n, gap in sorted(self.specificity.items()) if not gap.value < margin]
        return above[0] - 1 if above else self.n_units

    def is_certain(self, margin: float) -> bool:
        """Return whether S* is two standard errors from the margin up to n* + 1.

        Where units 1..n are the same weights, S* is exactly 0 and has no standard error.
        """
        decisive = [n for n in self.specificity if n <= self.find_depth(margin) + 1]
        gaps = [self.specificity[n] for n in decisive]
        return all(gap.value == 0 or abs(gap.value - margin) > 2 * gap.se for gap in gaps)


def make_families(runs: Sequence[Run]) -> list[Family]:
    """Return the families of which every n was trained from A and from B.

    Raises:
        DataError: there is none.
    """
    by_id = {run.run_id: run for run in runs}
    sources = {
        run.run_id: source
        for run in runs
        if run.plan.ancestry
        if (source := by_id.get(run.plan.ancestry[0].run_id)) and is_of_one_cue(source)
    }
    cells: dict[tuple[Any, ...], dict[tuple[int, int], Cell]] = {}
    for cell in make_cells([run for run in runs if run.run_id in sources]):
        key = _describe(cell, sources[cell.runs[0].run_id])
        cells.setdefault(key, {})[cell.k, cell.j] = cell
    arms = {
        cell.key: load_arms(cell, [METRIC]) for part in cells.values() for cell in part.values()
    }
    by_key = {key: arm[METRIC] for key, arm in arms.items() if METRIC in arm}
    families = []
    for (plant, model, m, is_own, cue, *values), part in cells.items():
        key_of_b = (plant, model, m, True)
        from_b = [cells_of_b for key, cells_of_b in cells.items() if key[:4] == key_of_b]
        if is_own or not from_b:
            continue
        family = Family(
            model,
            m,
            cue,
            dict(zip(FACTORS, values, strict=True)),
            cue == next(iter(part.values())).settings.get(CUE),
            *_compute_gaps(part, from_b[0], by_key),
            _find_trios(part, from_b[0], sources, runs),
            plant=plant,
        )
        if family.n_units:
            families.append(family)
    if not families:
        raise DataError(
            "no family of a planted study is complete: every number of units 1..L has to be "
            "trained from A and from B. `tlcnn-train experiment=planted` trains them, and the "
            "same command goes on where it was stopped."
        )
    return _mark_changes(families)


def is_of_one_cue(run: Run) -> bool:
    """Return whether a run can be A or B: trained on one of the cues of drawn images."""
    return run.settings.get(CUE) not in (None, JOINT)


def _describe(cell: Cell, source: Run) -> tuple[Any, ...]:
    """Return what makes a family: plant, network, m, whether the source is B, and its training."""
    values = [source.settings.get(key) for key in FACTORS.values()]
    is_own = source.plan.manifest == cell.image_digest
    cue = source.settings[CUE]
    plant, m = (TASKS, source.settings[SHARED]) if cue in TAUGHT else (NETWORKS, source.k)
    return (plant, cell.model, m, is_own, cue, *values)


def _compute_gaps(
    from_a: Mapping[tuple[int, int], Cell],
    from_b: Mapping[tuple[int, int], Cell],
    arms: Mapping[str, Arm],
) -> tuple[dict[int, Estimate], dict[int, Estimate]]:
    """Return S* and F* by n, in points; S* is empty where a number of units is missing."""

    def find_arm(cells: Mapping[tuple[int, int], Cell], k: int, j: int) -> Arm | None:
        return arms.get(cells[k, j].key) if (k, j) in cells else None

    n_units = len(next(iter(from_a.values())).units)
    specificity, cost = {}, {}
    whole = find_arm(from_a, n_units, 0)
    for n in range(1, n_units + 1):
        a, b = find_arm(from_a, n, n), find_arm(from_b, n, n)
        if a is None or b is None:
            return {}, {}
        specificity[n] = estimate_contrast([(POINTS, b), (-POINTS, a)])
        frozen = find_arm(from_a, n_units, n) or a
        if whole is not None:
            cost[n] = estimate_contrast([(POINTS, whole), (-POINTS, frozen)])
    return specificity, cost


def _find_trios(
    from_a: Mapping[tuple[int, int], Cell],
    from_b: Mapping[tuple[int, int], Cell],
    sources: Mapping[str, Run],
    runs: Sequence[Run],
) -> tuple[Trio, ...]:
    """Return the runs that are analysed: those in which all units were transferred and trained."""
    whole = from_a.get((len(next(iter(from_a.values())).units), 0))
    if whole is None:
        return ()
    # At n = L runs may start from the twin as well, so that the first n counts.
    cells = [cell for _, cell in sorted(from_b.items(), reverse=True)]
    b_by_seed = {run.seed: sources[run.run_id] for cell in cells for run in cell.runs}
    b_ids = {b.run_id for b in b_by_seed.values()}
    trios = []
    for run in whole.runs:
        if run.seed in b_by_seed:
            b = b_by_seed[run.seed]
            twins = [r for r in runs if _is_twin(r, b) and r.run_id not in b_ids]
            twins.sort(key=lambda twin: twin.seed)
            # Without common units all seeds have the same twins, and each seed takes another one.
            rank = sorted(b_by_seed).index(run.seed)
            twin = twins[rank % len(twins)] if twins else None
            trios.append(Trio(run, b, twin))
    return tuple(trios)


def _is_twin(run: Run, b: Run) -> bool:
    """Return whether a run has the images, the length and the common units of B."""
    first, second = (
        (r.model, r.plan.manifest, r.plan.epochs, r.k, r.j, [a.run_id for a in r.plan.ancestry])
        for r in (run, b)
    )
    return first == second


def _mark_changes(families: Sequence[Family]) -> list[Family]:
    """Return the families with the factors that differ from those of most, plain ones first."""
    marked = []
    for plant in (NETWORKS, TASKS):
        part = [family for family in families if family.plant == plant]
        counts = Counter(tuple(family.factors.values()) for family in part)
        plain = dict(zip(FACTORS, counts.most_common(1)[0][0], strict=True)) if part else {}
        part = [
            replace(f, changed={k: v for k, v in f.factors.items() if v != plain[k]}) for f in part
        ]
        marked += sorted(
            part, key=lambda f: (f.model, f.is_same_task, bool(f.changed), f.m, f.name)
        )
    return marked
