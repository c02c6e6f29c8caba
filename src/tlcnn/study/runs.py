"""The finished runs, and which of them count in the mean of a cell.

frame of `read_runs` -> Run (finished) -> by split seed and fold -> those that count
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from tlcnn.records.plan_record import PlanRecord
from tlcnn.records.search import SearchedArm
from tlcnn.statistics.metrics import is_possible
from tlcnn.storage import digest_of

Place = tuple[int, int]  # split seed and fold
IMAGES = "dataset.images"  # a setting of runs whose dataset's name stands for several


@dataclass(frozen=True)
class Run:
    """A finished run: one row of `read_runs`.

    Attributes:
        plan: what its plan.json says.
        scores: the metrics of its summary that are defined and possible (`is_possible`).
        train_s: seconds of training; NaN if unknown.
        is_improving: whether its best epoch on validation is the last.
        frozen_response: see `Summary`; NaN without frozen units or a record of it.
        searched: the arm of a search that it is a final run of; None for all other runs.
    """

    folder: str
    run_id: str
    dataset: str
    model: str
    init: str
    k: int
    j: int
    bn: str
    seed: int
    cell_id: str
    is_imported: bool
    settings: Mapping[str, Any]
    plan: PlanRecord
    scores: Mapping[str, float]
    train_s: float
    is_improving: bool
    frozen_response: float
    searched: SearchedArm | None = None

    @property
    def name(self) -> tuple[str, str, str, int, int, str]:
        """Dataset, model and treatment."""
        return (self.dataset, self.model, self.init, self.k, self.j, self.bn)


@dataclass(frozen=True)
class Omission:
    """Runs of a cell that count in no mean, and why.

    Attributes:
        kind: `repeated seed`: further runs of one seed; the run whose id sorts first is taken.
            `lacks a fold`: runs of seeds that were not trained on every fold of their cell.
            `lacks a seed`: runs of further split seeds without all folds and seeds of the fullest.
            `folds`: folds are missing.
        n: the number of runs; of `folds`, the number of folds present.
        names: seeds of `lacks a fold`, split seeds of `lacks a seed`.
        n_planned: folds that the configuration names.
    """

    kind: Literal["repeated seed", "lacks a fold", "lacks a seed", "folds"]
    n: int
    names: tuple[str, ...] = ()
    n_planned: int = 0


def drop_trials(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of `read_runs` without the trials of searches, which are no results."""
    if "is_trial" not in frame or frame.empty:
        return frame
    return frame[~frame["is_trial"].astype(bool)]


def make_runs(frame: pd.DataFrame) -> tuple[Run, ...]:
    """Return the finished runs of a frame of `read_runs`, but for trials of searches.

    A final run of several searches is there once for each of them.
    """
    frame = drop_trials(frame)
    done = frame[frame["state"] == "done"] if len(frame) else frame
    metrics = [column for column in done.columns if "/" in column]
    plain = ("folder", "run_id", "dataset", "model", "init", "bn", "cell_id", "train_s", "plan")
    runs = [
        Run(
            **{name: record[name] for name in plain},
            k=int(record["k"]),
            j=int(record["j"]),
            seed=int(record["seed"]),
            is_imported=record["imported"],
            settings=record["settings"],
            is_improving=record.get("best_epoch") == record["plan"].epochs,
            frozen_response=record.get("frozen_response", math.nan),
            scores={name: record[name] for name in metrics if is_possible(name, record[name])},
            searched=searched,
        )
        for record in done.to_dict("records")
        for searched in record.get("searched") or (None,)
    ]
    return tuple(_name_images(runs))


def make_single_runs(frame: pd.DataFrame) -> tuple[Run, ...]:
    """Return the finished runs of a frame, each once. Trials of searches are runs like others."""
    return make_runs(frame.assign(is_trial=False, searched=None))


def _name_images(runs: Sequence[Run]) -> list[Run]:
    """Return the runs, with the setting `IMAGES` where a dataset's name means several.

    Runs of one name and one split must have one manifest. Where they do not, such as before and
    after a cleaning, they are not comparable, and a short digest tells the images apart. Each fold
    has a manifest of its own: folds of one folder and equal numbers of images belong together.
    """
    by_dataset: dict[str, list[Run]] = {}
    for run in runs:
        if run.plan.manifest:
            by_dataset.setdefault(run.dataset, []).append(run)
    several = set()
    for dataset, members in by_dataset.items():
        keys = {k for r in members for k in r.settings if k.startswith("dataset.")}
        # An option that some records do not have was added later.
        options = {k for k in keys if k.startswith("dataset.options.")}
        later = {k for k in options if any(k not in run.settings for run in members)}
        keys -= {"dataset.root", "dataset.name", *later}
        manifests: dict[str, set[str]] = {}
        for run in members:
            place = repr([run.settings.get(key) for key in sorted(keys)])
            manifests.setdefault(place, set()).add(run.plan.manifest)
        if any(len(values) > 1 for values in manifests.values()):
            several.add(dataset)
    return [
        replace(run, settings={**run.settings, IMAGES: _digest_images(run)})
        if run.dataset in several and run.plan.manifest
        else run
        for run in runs
    ]


def _digest_images(run: Run) -> str:
    if run.settings.get("dataset.folds") is None:
        return run.plan.manifest[:8]
    sizes = pd.DataFrame(run.plan.split_sizes).sum(axis=1).to_dict()
    return digest_of([run.settings.get("dataset.root"), sizes], 8)


def choose_runs(
    by_place: Mapping[Place, Sequence[Run]],
) -> tuple[dict[Place, tuple[Run, ...]], list[Omission]]:
    """Return the runs of a cell that count, by seed, for each split seed and fold; and the others.

    Of several runs of one seed (and fold) the one whose id sorts first is taken. A seed that was
    not trained on every fold is left out, so that folds differ by nothing but their images.
    Another split seed repeats the folds on other images. A repeat counts where it has the folds
    and the seeds of the fullest one.
    """
    by_seed: dict[Place, dict[int, Run]] = {}
    for place, runs in sorted(by_place.items()):
        last_first = sorted(runs, key=lambda run: (run.seed, run.run_id), reverse=True)
        by_seed[place] = {run.seed: run for run in last_first}
    n_repeated = sum(map(len, by_place.values())) - sum(map(len, by_seed.values()))
    repeats: dict[int, dict[int, dict[int, Run]]] = {}
    for (repeat, fold), runs_by_seed in by_seed.items():
        repeats.setdefault(repeat, {})[fold] = runs_by_seed
    whole = {r: set.intersection(*map(set, folds.values())) for r, folds in repeats.items()}

    def rank(repeat: int) -> tuple[bool, int, int, int]:
        return bool(whole[repeat]), len(repeats[repeat]), len(whole[repeat]), -repeat

    first = max(repeats, key=rank)
    places, seeds = repeats[first].keys(), sorted(whole[first])
    is_counted = {r: repeats[r].keys() == places and whole[r].issuperset(seeds) for r in repeats}
    counted = {place: runs for place, runs in by_seed.items() if is_counted[place[0]]}
    omissions = [Omission("repeated seed", n_repeated)] if n_repeated else []
    partial = sorted({seed for runs in counted.values() for seed in runs} - whole[first])
    if partial:
        n_partial = sum(seed in partial for runs in counted.values() for seed in runs)
        omissions.append(Omission("lacks a fold", n_partial, tuple(map(str, partial))))
    incomplete = tuple(str(repeat) for repeat in repeats if not is_counted[repeat])
    if incomplete:
        n_runs = sum(len(runs) for place, runs in by_seed.items() if place not in counted)
        omissions.append(Omission("lacks a seed", n_runs, incomplete))
    return {p: tuple(runs[seed] for seed in seeds) for p, runs in counted.items()}, omissions
