"""A plan or a unit map as text for the terminal, and a plan as a record for its folder."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from textwrap import shorten

from tlcnn.config.hold_out import parse_hold_out
from tlcnn.data.dataset import MEND_COPIES
from tlcnn.data.index import SPLITS, UNUSED
from tlcnn.data.policy import NORMALIZE, find_policy, load_scaling
from tlcnn.data.splits import list_split_warnings
from tlcnn.model.unit_map import UnitMap
from tlcnn.plan.few_groups import describe_few_groups
from tlcnn.plan.identity import FIRST_KEYS
from tlcnn.plan.plan import Plan
from tlcnn.plan.reuse import describe_reuse
from tlcnn.plan.schedule import make_phases, resolve_schedule
from tlcnn.plan.treatment import is_prefix
from tlcnn.records.plan_record import PlanRecord, UnitRecord, WeightsRecord
from tlcnn.text import align_columns, count
from tlcnn.training.steps import EpochSteps, divide_epoch

_COMPILED = (
    ", compiled before the first step, which takes about a minute, once a process for each frozen "
    "depth, batch size and precision. Evaluations are not compiled"
)


def describe_plan(plan: Plan) -> str:
    """Return the plan as text: units and what happens to each, splits, steps, id and folder."""
    cfg, images = plan.config, plan.dataset
    recipe = plan.identity["train"]
    n_steps = plan.steps_per_epoch * recipe["epochs"]
    parts = f"{cfg.train.accumulate} x " if cfg.train.accumulate > 1 else ""
    parts += str(_divide_epoch(plan).batch_size)
    fold = "" if cfg.dataset.folds is None else f", fold {cfg.dataset.fold} of {cfg.dataset.folds}"
    held = cfg.dataset.hold_out
    tested = f"{parse_hold_out(held).words}, which training has not seen" if held else ""
    lines = [
        f"run {plan.run_id}  {plan.run_name}",
        "",
        *_describe_units(plan),
        "",
        *_describe_splits(plan),
        "",
        *(
            f"{'before' if number else 'from':9}{ancestor.describe()}"
            for number, ancestor in enumerate(plan.ancestry)
        ),
        f"images   {len(images.index):,} of {cfg.dataset.name} at {cfg.dataset.image_size} px "
        f"({cfg.dataset.fit}), augment {recipe['augment']}; digest {images.manifest[:12]}",
        *([f"test     {tested}"] if tested else []),
        f"train    {count(recipe['epochs'], 'epoch')} x {count(plan.steps_per_epoch, 'step')} of "
        f"{parts} = {count(n_steps, 'update')}, {recipe['optimizer']} "
        f"lr {recipe['lr']:g}, class weights {recipe.get('class_weights', 'none')}"
        f"{_describe_rest(plan)}{_describe_phases(plan)}",
        *_describe_train_settings(plan),
        f"compute  {plan.device.name} ({plan.device.hardware}), {plan.precision}"
        f"{_COMPILED if cfg.train.compile else ''}{_describe_calls(plan)}",
        f"reuse    {describe_reuse(plan)}",
        f"seed     {cfg.seed} (split {cfg.dataset.split_seed}{fold})",
        f"folder   {plan.run_dir}",
    ]
    if cfg.init.source == "random" and str(cfg.init.through) != "all":
        lines.append("note     init=random transfers nothing, so init.through has no effect")
    if cfg.freeze.bn != "frozen" and not plan.treatment.frozen:
        lines.append(f"note     nothing is frozen, so freeze.bn={cfg.freeze.bn} has no effect")
    if plan.unit_map.dropped:
        last = plan.unit_map.names[-1]
        lines.append(
            f"note     units above {last} are dropped; the head averages what leaves {last}"
        )
    lines += [f"note     {text}" for text in _list_hints(plan)]
    return "\n".join(lines)


def _list_hints(plan: Plan) -> Iterator[str]:
    """Yield what probably should be set otherwise: the scale of pixels, and turned images."""
    cfg, weights = plan.config, plan.treatment.weights
    tag = weights.tag if weights and not weights.is_run else ""
    trained_with = load_scaling(tag, plan.cache_dir) if tag else None
    if trained_with is not None and trained_with != NORMALIZE[cfg.dataset.normalize]:
        name = next((name for name, scaling in NORMALIZE.items() if scaling == trained_with), None)
        mean, deviation = (" ".join(f"{value:g}" for value in part) for part in trained_with)
        yield (
            f"{tag} was trained on pixels of mean {mean} and deviation "
            f"{deviation}, which are not those of dataset.normalize={cfg.dataset.normalize}"
            + (f"; dataset.normalize={name} has them" if name else "")
        )
    is_turned = find_policy(cfg.train.augment).dihedral == "all"
    if is_turned and cfg.dataset.kind in ("folder", "table"):
        yield (
            f"train.augment={cfg.train.augment} turns images by quarters and upside down, which "
            "suits dermoscopy and histology. For ultrasound, X-rays and other images with an up "
            "and a down use train.augment=upright"
        )


def _describe_train_settings(plan: Plan) -> list[str]:
    """Return a line of the settings of training that differ from plain training, if any do."""
    values = {k: v for k, v in plan.identity["train"].items() if f"train.{k}" not in FIRST_KEYS}
    factors = values.pop("unit_factors", None)
    parts = [f"{key} {value}" for key, value in values.items()]
    parts += [f"erase {plan.config.train.erase:g}"] if plan.config.train.erase else []
    if plan.identity["train"]["augment"] == "ranges":
        numbers = (f"{key} {value}" for key, value in plan.config.train.augment_ranges.items())
        parts.append(f"augment {plan.config.train.augment}, but {', '.join(numbers)}")
    if factors:
        rates = (f"{name} {f:.3g}" for name, f in zip(plan.unit_map.names, factors, strict=True))
        parts.append(f"rates times {', '.join(rates)}")
    return [f"with     {'; '.join(parts)}"] if parts else []


def _divide_epoch(plan: Plan) -> EpochSteps:
    n_train, train = int((plan.dataset.splits == "train").sum()), plan.config.train
    return divide_epoch(n_train, train.batch_size, train.accumulate)


def _describe_rest(plan: Plan) -> str:
    """Return how many training images an epoch does not show; empty where it shows all.

    Balanced sampling repeats images of small classes, so that others are left out anyway.
    """
    n_train, n_left = int((plan.dataset.splits == "train").sum()), _divide_epoch(plan).n_left
    if not n_left or plan.config.train.sampling == "balanced":
        return ""
    verb = "is" if n_left == 1 else "are"
    return (
        f"\n         an epoch shows {n_train - n_left:,} of {count(n_train, 'image')}: the last "
        f"{n_left:,} of its random order {verb} too few for a step"
    )


def _describe_phases(plan: Plan) -> str:
    """Return when each unit begins to be trained; empty where all begin together."""
    names = plan.unit_map.names
    phases = make_phases(plan.config, plan.treatment, len(plan.unit_map))
    starts = [
        f"from epoch {phase.first} on "
        + ", ".join(names[n - 1] for n in before.resting if n not in phase.resting)
        for before, phase in pairwise(phases)
    ]
    return f"\n         the head from the start, {', '.join(starts)}" if starts else ""


def _describe_calls(plan: Plan) -> str:
    """Return how a GPU gets the work of an update; empty on other devices."""
    if plan.device.name != "cuda":
        return ""
    if not plan.config.cuda_graph:
        return ", every update launched from Python (cuda_graph=false)"
    return ", updates recorded as a CUDA graph; the log says so where that is impossible"


def _list_units(plan: Plan) -> tuple[UnitRecord, ...]:
    """Return, per unit, where its weights come from and whether it is frozen."""
    cell = plan.treatment
    source = cell.weights.tag if cell.weights else "fresh"
    above = "stats" if cell.above == "stats" else "fresh"
    last = max(cell.transferred, default=0)
    return tuple(
        UnitRecord(
            unit=unit.name,
            modules=unit.outline(),
            n_params=unit.n_params,
            stride=unit.stride,
            weights=source
            if number in cell.transferred
            else (above if number > last else "fresh"),
            frozen=number in cell.frozen,
        )
        for number, unit in enumerate(plan.unit_map.units, start=1)
    )


def _describe_units(plan: Plan) -> list[str]:
    bn = plan.config.freeze.bn
    frozen = "frozen" if bn == "frozen" else f"frozen (bn {bn})"
    rows = [("", "unit", "modules", "parameters", "weights", "")]
    for number, unit in enumerate(_list_units(plan), start=1):
        state, size = frozen if unit.frozen else "trained", f"{unit.n_params:,}"
        rows.append((str(number), unit.unit, unit.modules, size, str(unit.weights), state))
    cell = plan.treatment
    head = cell.weights.tag if cell.has_head and cell.weights else "fresh"
    rows.append(("", "head", "", "", head, "trained"))
    return align_columns(rows, right=(0, 3))


def _describe_splits(plan: Plan) -> list[str]:
    index, counts, splits = plan.dataset.index, plan.dataset.counts(), plan.dataset.splits
    rows = [("", *index.strata, "images", "groups")]
    for split in SPLITS:
        is_in_split = splits == split
        n_groups = index.table["group"][is_in_split].nunique()
        numbers = [*counts[split].values(), int(is_in_split.sum()), n_groups]
        rows.append((split, *(f"{number:,}" for number in numbers)))
    lines = align_columns(rows, right=range(1, len(rows[0])))
    if n_unused := int((splits == UNUSED).sum()):
        unused = count(n_unused, "image")
        lines.append(f"unused   {unused} of the training split (dataset.train_images)")
    warnings = [*list_notes(plan), *list_split_warnings(index.truth, splits, index.classes)]
    data = plan.config.dataset
    if data.folds is None and (few := describe_few_groups(index, splits, data)):
        warnings.append(few)
    return [*lines, *(f"warning: {warning}" for warning in warnings)]


def list_notes(plan: Plan) -> list[str]:
    """Return the sentences on a plan's images: of their reader, and on copies across splits."""
    copies = plan.dataset.copies
    return [*plan.dataset.index.notes, *([f"{copies}. {MEND_COPIES}"] if copies else [])]


def make_plan_record(plan: Plan) -> PlanRecord:
    """Return what plan.json says of a plan: the identity, and what readers show beside it."""
    cell, weights, images = plan.treatment, plan.treatment.weights, plan.dataset
    settings = {
        f"{group}.{key}": value
        for group in ("dataset", "model", "init", "freeze", "train")
        for key, value in asdict(getattr(plan.config, group)).items()
    }
    for key, value in settings.pop("dataset.options").items():
        if key != "cache_dir":  # a place
            settings[f"dataset.options.{key}"] = value
    names = {
        key: None if is_prefix(numbers) else ",".join(plan.unit_map.names[n - 1] for n in numbers)
        for key, numbers in (("init.units", cell.transferred), ("freeze.units", cell.frozen))
    }
    schedule = {"schedule": "together"} | resolve_schedule(plan.config, cell, len(plan.unit_map))
    settings |= {f"train.{key}": value for key, value in schedule.items()}
    settings |= {**names, "init.above": cell.above, "init.head": cell.has_head}
    return PlanRecord(
        run_id=plan.run_id,
        run_name=plan.run_name,
        cell_id=plan.cell_id,
        identity=plan.identity,
        dataset=plan.config.dataset.name,
        model=plan.config.model.name,
        source=plan.source,
        weights=WeightsRecord(weights.tag, weights.origin) if weights else None,
        ancestry=tuple(ancestor.record for ancestor in plan.ancestry),
        k=cell.k,
        j=cell.j,
        bn=plan.identity["freeze"]["bn"],
        seed=plan.config.seed,
        units=_list_units(plan),
        classes=tuple(images.index.classes),
        task=images.index.task,
        positive=images.index.positive,
        split_sizes=images.counts(),
        steps_per_epoch=plan.steps_per_epoch,
        epochs=plan.identity["train"]["epochs"],
        settings=settings | {"train.precision": plan.precision},
        notes=tuple(list_notes(plan)),
    )


def describe_units(unit_map: UnitMap) -> str:
    """Return the units as a table, one line each, and a line for the head."""
    rows = [("", "unit", "modules", "stride", "parameters", "tensors", "cut after it")]
    rows += [
        (
            str(number),
            unit.name,
            unit.outline(),
            str(unit.stride),
            f"{unit.n_params:,}",
            str(len(unit.tensors)),
            shorten(unit.cut_obstacle or "exact", 60, placeholder="…"),
        )
        for number, unit in enumerate(unit_map.units, start=1)
    ]
    head = dict.fromkeys(name.rsplit(".", 1)[0] for name in unit_map.head)
    rows.append(("", "head", " ".join(head), "", "", "", ""))
    title = (
        f"{unit_map.model}: {count(len(unit_map), 'unit')} at granularity {unit_map.granularity}"
    )
    return "\n".join([title, *align_columns(rows, right=(0, 3, 4, 5))])
