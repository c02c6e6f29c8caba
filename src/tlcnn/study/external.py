"""Tests on other datasets as cells: the same seeds, scored on other images.

records of tests -> cells whose runs have the predictions of the test -> arms, contrasts

The own test set never enters: a cell of a test has the folders and scores of the test alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from tlcnn.records.external import ExternalRecord
from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.metrics import is_possible
from tlcnn.study.arms import estimate_mean, load_arms
from tlcnn.study.block import find_val_metric, make_blocks
from tlcnn.study.cells import Cell
from tlcnn.study.comparisons import Contrast, FamilyKind, compare_blocks
from tlcnn.study.runs import Run

_COMPARED = (FamilyKind.TRANSFER, FamilyKind.CHAIN)  # questions that no choice answers


@dataclass(frozen=True)
class ExternalCell:
    """The runs of a cell that were tested on the same images of another dataset.

    Attributes:
        cell: the cell; the folders and scores of its runs are those of the test.
        records: what each test has recorded; one for an ensemble.
        arms: an arm for each fold of the cell, by metric.
    """

    cell: Cell
    records: tuple[ExternalRecord, ...]
    arms: Mapping[str, tuple[Arm, ...]]

    @property
    def record(self) -> ExternalRecord:
        """What the first test has recorded; the others have the same images."""
        return self.records[0]

    @property
    def n_networks(self) -> int:
        """The networks of an ensemble; 1 for runs that were tested one by one."""
        return len(self.record.runs)

    @property
    def has_accepted(self) -> bool:
        """Whether a run was tested on images that its training or validation has used."""
        return any(record.n_accepted for record in self.records)

    @property
    def is_fixed(self) -> bool:
        """Whether the interval is over new test groups alone, for these very networks."""
        return all(arm.is_fixed for arms in self.arms.values() for arm in arms)

    def estimate(self, metric: str) -> Estimate | None:
        """Return the mean over its runs with its interval; None without the metric."""
        return estimate_mean(self.arms[metric]) if metric in self.arms else None


def list_external_cells(
    tests: pd.DataFrame, cells: Iterable[Cell], metrics: Sequence[str]
) -> list[ExternalCell]:
    """Return the tested cells, by dataset and images.

    The interval of several seeds is over new seeds and new test groups, as for the own test set.
    The interval of one seed, or of an ensemble, is over new test groups alone.

    Args:
        tests: what `read_tests` returned.
        cells: of the tested runs; runs of other cells are left out.
        metrics: `test/METRIC` or `test/group/METRIC`.
    """
    if tests.empty:
        return []
    cells = list(cells)
    external = []
    for _, rows in tests.groupby([_make_key(record) for record in tests["record"]]):
        plain = {r["run_id"]: r for r in rows.to_dict("records") if len(r["record"].runs) == 1}
        ensembles = {r["run_id"]: r for r in rows.to_dict("records") if len(r["record"].runs) > 1}
        for cell in cells:
            tested = [
                tuple(_move(run, plain[run.run_id]) for run in fold if run.run_id in plain)
                for fold in cell.folds
            ]
            if any(tested):
                records = [plain[r.run_id]["record"] for r in cell.runs if r.run_id in plain]
                external.append(_score(cell, [*filter(None, tested)], records, metrics))
            for run in (run for run in cell.runs if run.run_id in ensembles):
                row = ensembles[run.run_id]
                external.append(_score(cell, [(_move(run, row),)], [row["record"]], metrics))
    return external


def _make_key(record: ExternalRecord) -> str:
    return repr((record.dataset, record.split, record.images, sorted(record.class_map.items())))


def _move(run: Run, test: Mapping[Any, Any]) -> Run:
    """Return a run with the predictions and scores of a test."""
    record: ExternalRecord = test["record"]
    scores = {key: v for key, v in record.scores.items() if is_possible(key, v)}
    return replace(run, folder=str(test["folder"]), scores=scores)


def _score(
    cell: Cell,
    folds: Sequence[tuple[Run, ...]],
    records: Sequence[ExternalRecord],
    metrics: Sequence[str],
) -> ExternalCell:
    """Return the cell of a test. Folds were all tested on the same images, an arm for each."""
    record = records[0]
    # What guessing scores is clear only where every class has images.
    n_options = 0 if record.absent else cell.n_classes
    parts = [
        replace(
            cell,
            folds=(fold,),
            places=(),
            fold_ratio=None,
            image_digest=record.images,
            n_classes=n_options,
            omissions=(),
        )
        for fold in folds
    ]
    is_fixed = len({run.seed for fold in folds for run in fold}) == 1
    by_part = [load_arms(part, metrics) for part in parts]
    arms = {
        metric: tuple(
            replace(arms[metric], is_fixed=is_fixed) for arms in by_part if metric in arms
        )
        for metric in metrics
    }
    whole = replace(parts[0], folds=tuple(folds), tuning=None)
    return ExternalCell(
        whole, tuple(records), {metric: part for metric, part in arms.items() if part}
    )


def compare_external(
    external: Sequence[ExternalCell],
    arms: Mapping[str, Mapping[str, Arm]],
    metric: str,
    margin: float,
) -> Iterator[tuple[ExternalRecord, Contrast]]:
    """Yield the comparisons of sources on other datasets, paired by test group and seed.

    They are those of the report that no choice on validation enters, adjusted by Holm in their
    families on each set of images alone. Cells with folds, ensembles, and cells
    of which a run was tested on images that it has used are left out.

    Args:
        arms: the arms of each cell by metric, from which validation scores are taken.
    """
    by_images: dict[str, list[ExternalCell]] = {}
    for each in external:
        is_simple = each.n_networks == 1 and len(each.cell.folds) == 1
        if is_simple and not each.has_accepted and metric in each.arms:
            by_images.setdefault(each.record.images, []).append(each)
    val_metric = find_val_metric(metric)
    for members in by_images.values():
        scored = {}
        for each in members:
            own = {m: a for m, a in arms.get(each.cell.key, {}).items() if m == val_metric}
            scored[each.cell.key] = own | {metric: replace(each.arms[metric][0], is_fixed=False)}
        cells = {each.cell.key: each.cell for each in members}
        for contrast in compare_blocks(make_blocks(cells, scored, metric), margin):
            if contrast.family.kind in _COMPARED:
                yield members[0].record, contrast
