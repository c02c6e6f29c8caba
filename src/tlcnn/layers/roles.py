"""Which runs an analysis compares. Imports no torch.

the run    its network before the first step, and after training
own, twin  runs of two seeds with the run's images, network and recipe, but trained from random
           weights with nothing frozen. A run that dropped units is compared with whole networks,
           of which the same units are dropped
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlcnn.errors import ConfigError, DataError
from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.plan.ancestry import find_run_dir
from tlcnn.records.files import read_digests
from tlcnn.records.measures import AnalysisRecord, find_measures_dir, list_missing
from tlcnn.records.plan_record import PlanRecord
from tlcnn.records.read import read_runs
from tlcnn.study.runs import Run, make_runs

SELF, RANDOM = "self", "random"  # values of --against; any other names a run
SEED_OFFSET = 10**6  # from the run's seed to that of the role `random`
# Keys of the identity that say how transferred units are trained. A run from random weights with
# the rest of the recipe is `own` where none has these as well.
_OF_UNITS = {"anchor", "head_lr", "unit_factors", "schedule", "head_epochs", "unfreeze_every"}


@dataclass(frozen=True)
class Analysis:
    """An analysis before it is computed.

    Attributes:
        own_dir, twin_dir: the folders of the runs in these roles; None without one.
        measures: the version of each measure that is asked for.
    """

    run_dir: Path
    own_dir: Path | None
    twin_dir: Path | None
    record: AnalysisRecord
    measures: Mapping[str, int]

    @property
    def folder(self) -> Path:
        """The folder of its records."""
        return find_measures_dir(self.run_dir) / self.record.analysis_id

    @property
    def is_done(self) -> bool:
        """Whether all measures that are asked for have their readings."""
        return not list_missing(self.folder, self.measures)


class Candidates:
    """The finished runs of each folder of run folders, read once."""

    def __init__(self) -> None:
        self._runs: dict[Path, tuple[Run, ...]] = {}

    def list_beside(self, run_dir: Path) -> tuple[Run, ...]:
        """Return the finished runs in the folder that holds a run."""
        place = run_dir.absolute().parent
        if place not in self._runs:
            self._runs[place] = make_runs(read_runs(place))
        return self._runs[place]


def find_bases(run: Run, against: str, candidates: Candidates) -> list[Run]:
    """Return the runs in the roles `own` and `twin`, in this order, as far as they exist.

    The run of the same seed is first, then the next seeds. A run that this one starts from comes
    last, and is never `own`: the two would not be independent.

    Args:
        against: `self`: runs in the folder of the run; `random`: none; else the run `own`, by its
            folder or by its id.

    Raises:
        WeightsError: there is no such run.
        ConfigError: that run is not finished, or has another network, other units or images.
    """
    if against == RANDOM:
        return []
    references: list[Run] = []
    if against == SELF:
        runs = candidates.list_beside(Path(run.folder))
        bases = _find_recipe([b for b in runs if b.k == b.j == 0 and not b.is_imported], run)
    else:
        folder = find_run_dir(against, Path(run.folder).absolute().parent.parent)
        runs = candidates.list_beside(folder)
        references = [r for r in runs if Path(r.folder).name == folder.name]
        _check_base(run, references, against)
        reference = references[0]
        bases = [
            b for b in runs if b.cell_id == reference.cell_id and b.run_id != reference.run_id
        ]
    bases = [b for b in bases if b.run_id != run.run_id]
    before = {ancestor.run_id for ancestor in run.plan.ancestry}
    bases.sort(key=lambda b: (b.run_id in before, b.seed < run.seed, b.seed))
    if not references and bases and bases[0].run_id in before:
        return []
    return [*references, *bases][:2]


def _check_base(run: Run, references: Sequence[Run], against: str) -> None:
    """Raise ConfigError unless a run can stand for the target's own network."""
    if not references or references[0].is_imported:
        raise ConfigError(
            f"--against {against}: that run is not finished, or has predictions alone. Name a "
            "finished run that was trained here."
        )
    reference, differences = references[0], []
    if reference.model != run.model:
        differences.append(f"another network ({reference.model})")
    elif not _has_network_of(reference, run):
        differences.append("other units")
    if reference.plan.identity.get("dataset") != run.plan.identity.get("dataset"):
        differences.append("other images, classes, splits or sizes of images")
    if differences:
        raise ConfigError(
            f"--against {against} has {' and '.join(differences)}, compared with "
            f"{Path(run.folder).name}. Name a run with the same dataset, splits, image size, "
            "model and units."
        )


def _find_recipe(bases: Sequence[Run], run: Run) -> list[Run]:
    """Return the runs with the images, network and recipe of another run.

    Where there are none, they are those without what its recipe says of transferred units.
    """
    recipe, bases = _describe_recipe(run.plan), [b for b in bases if _has_network_of(b, run)]
    if same := [base for base in bases if _describe_recipe(base.plan) == recipe]:
        return same
    recipe["train"] = {k: v for k, v in recipe["train"].items() if k not in _OF_UNITS}
    return [base for base in bases if _describe_recipe(base.plan) == recipe]


def _describe_recipe(plan: PlanRecord) -> dict[str, Any]:
    """Return what makes two runs the same but for network, source, frozen units and seed."""
    left_out = ("init", "freeze", "seed", "model")
    identity = {k: v for k, v in plan.identity.items() if k not in left_out}
    # How the outputs of frozen units are stored is no part of a run without any.
    train = {k: v for k, v in identity.get("train", {}).items() if k != "features"}
    return {**identity, "train": train}


def _has_network_of(base: Run, run: Run) -> bool:
    """Return whether two runs have the same network and units, but for those `run` dropped."""
    networks = [dict(each.plan.identity.get("model", {})) for each in (base, run)]
    is_dropped = [each.settings.get("init.above") == "truncate" for each in (base, run)]
    if is_dropped == [False, True]:
        for network, each in zip(networks, (base, run), strict=True):
            names = [unit.unit for unit in each.plan.units]
            network["units"] = names[: len(run.plan.units)]
            network["granularity"] = each.settings.get("model.granularity")
    return networks[0] == networks[1]


def make_analysis(
    run: Run, bases: Sequence[Run], measures: Mapping[str, int], *, n_images: int
) -> Analysis:
    """Return the analysis of a run against others.

    Args:
        bases: of `find_bases`.
        n_images: the most training images.

    Raises:
        DataError: a run has no record of its weights.
    """
    plan = run.plan
    folders = [Path(r.folder) for r in (run, *bases)]
    roles = dict(zip(("final", "own", "twin"), map(_read_weights_digest, folders), strict=False))
    record = AnalysisRecord(
        **{name: getattr(run, name) for name in ("run_id", "cell_id", "dataset", "model")},
        **{name: getattr(run, name) for name in ("k", "j", "bn", "seed")},
        source="-".join(plan.source),
        units=tuple(unit.unit for unit in plan.units),
        manifest=plan.manifest,
        n_images=min(n_images, plan.count_images("train")),
        networks={
            "start": plan.weights_digest or "drawn",
            **roles,
            "random": f"drawn:{run.seed + SEED_OFFSET}",
        },
        against=bases[0].run_id if bases else "",
    )
    own_dir, twin_dir, *_ = [*folders[1:], None, None]
    return Analysis(folders[0], own_dir, twin_dir, record, dict(measures))


def _read_weights_digest(run_dir: Path) -> str:
    digest = read_digests(run_dir).get(RUN_WEIGHTS)
    if digest is None:
        raise DataError(f"{run_dir} has no {RUN_WEIGHTS}: there is no network to look into")
    return digest
