"""What a report explains of itself: its first sentences and its words."""

from collections.abc import Callable, Iterable, Iterator

from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.content import Content
from tlcnn.report.words import join_words, name_dataset, name_metric, write_classes
from tlcnn.study.runs import drop_trials
from tlcnn.text import count


def _has_layers(content: Content) -> bool:
    return len(content.layers) > 0


def _has_stages(content: Content) -> bool:
    return any(unit.unit == "stem" for plan in _list_plans(content) for unit in plan.units)


def _has_imagenet(content: Content) -> bool:
    return any("ImageNet" in str(source) for source in content.cells.get("source", ()))


def _has_metric(name: str) -> Callable[[Content], bool]:
    return lambda content: any(f"/{name}" in metric for metric in content.metrics)


def _has_curves(content: Content) -> bool:
    """Return whether networks were trained of which only some units come from a source."""
    names = ("AnB", "AnB+", "BnB", "BnB+")
    return any(
        (part.curves["arm"].isin(names) & (part.curves["n"] < len(part.units))).any()
        for part in content.layers
    )


def _has_calibration(content: Content) -> bool:
    return len(content.calibration) > 0


def _always(content: Content) -> bool:
    return True


# A word, its meaning, and whether a report uses it.
_GLOSSARY: tuple[tuple[str, str, Callable[[Content], bool]], ...] = (
    (
        "ImageNet",
        "1.28 million everyday photographs of 1,000 classes, none of them medical, on which many "
        "published networks were trained",
        _has_imagenet,
    ),
    (
        "source",
        "what the transferred weights were trained on: “A → B” means on A, and then on B; where A "
        "is a dataset of yours, training on it began with random weights",
        _always,
    ),
    (
        "unit",
        "a block of layers that is transferred or frozen as a whole, counted from the input",
        _always,
    ),
    (
        "stem, stage1, stage2, …",
        "the units in their order: the stem reads the image, and the stages after it compute ever "
        "coarser maps of it",
        _has_stages,
    ),
    (
        "fine-tuning",
        "training a network that starts from transferred weights; full fine-tuning trains all of "
        "its units",
        _always,
    ),
    ("freeze", "to leave a unit as it was transferred, while other units are trained", _always),
    ("epoch", "one pass through the training images", _always),
    (
        "k",
        "the number of units that start from the source's weights; the others start at random",
        _always,
    ),
    ("j", "the number of frozen units: training leaves them bitwise as they were", _always),
    (
        "validation",
        "images that are neither trained nor tested on: the epoch and the cell are chosen by them",
        _always,
    ),
    (
        "test group",
        "test images that belong together, such as those of one lesion: none of a group's images "
        "is trained on",
        _always,
    ),
    (
        "balanced accuracy",
        "the mean recall over classes: a rare class counts as much as a frequent one",
        _has_metric("balanced_accuracy"),
    ),
    (
        "macro AUROC",
        "how well the probability of a class ranks its images above the others, as a mean over "
        "classes: 0.5 is guessing, 1 is perfect",
        _has_metric("macro_auroc"),
    ),
    (
        "NLL",
        "negative log-likelihood: how improbable the true classes are by the predicted "
        "probabilities; less is better",
        lambda content: _has_metric("nll")(content) or _has_calibration(content),
    ),
    (
        "ECE",
        "expected calibration error: the mean gap between the probability of the predicted class "
        "and the share of right predictions; less is better",
        lambda content: _has_metric("ece")(content) or _has_calibration(content),
    ),
    (
        "point",
        "a hundredth: from 61 % to 62 % is one point; differences are taken before rounding",
        _always,
    ),
    (
        "seed",
        "the number that decides a run's random start, order of images and augmentation",
        _always,
    ),
    ("run", "one training of one network, tested once", _always),
    ("cell", "one choice of source, k, j and recipe; its runs differ in the seed alone", _always),
    (
        "interval",
        "a 95 % confidence interval for the mean over new seeds and new test images: of many such "
        "intervals, each from a study of its own, about 95 % hold the true value",
        _always,
    ),
    (
        "p",
        "the probability of a difference at least as large if there were none in truth",
        _always,
    ),
    (
        "adjusted p",
        "p raised for the number of comparisons (Holm); the interval is not adjusted",
        _always,
    ),
    ("family", "the comparisons of one question, for whose number p is adjusted", _always),
    (
        "equivalent",
        "the difference is shown to be smaller than its margin, in either direction",
        _always,
    ),
    (
        "inconclusive",
        "neither a difference nor equivalence is shown; it does not mean “equal”",
        _always,
    ),
    (
        "AnB",
        "a network whose first n units come from the source (A) and are frozen, while the others "
        "start at random and are trained on the target (B)",
        _has_curves,
    ),
    (
        "BnB",
        "the same, but its first n units come from a network trained on the target itself",
        _has_curves,
    ),
    ("n", "the number of units, counted from the input, that a statement is about", _has_layers),
    ("L", "the number of all units of a network", _has_layers),
    (
        "δ",
        "the margin of a cost, below which it counts as none; the text above each table of layers "
        "says where it comes from",
        _has_layers,
    ),
    ("general", "of the first n units: frozen, they are shown to cost less than δ", _has_layers),
    ("specific", "of the first n units: frozen, they are shown to cost more than δ", _has_layers),
)
_MAX_NAMES = 4  # datasets that are named one by one
_DRAWN = ("synthetic", "planted")  # kinds of datasets whose images a program draws


def make_glossary(content: Content) -> list[tuple[str, str]]:
    """Return the words that a report uses, with their meanings, and its classes in full."""
    entries = [(word, meaning) for word, meaning, is_used in _GLOSSARY if is_used(content)]
    classes = {plan.dataset: write_classes(plan.classes) for plan in _list_plans(content)}
    return [
        *entries,
        *((f"classes of {name_dataset(n)}", text) for n, text in classes.items() if text),
    ]


def _list_plans(content: Content) -> list[PlanRecord]:
    return [plan for plan in content.runs.get("plan", ()) if isinstance(plan, PlanRecord)]


def write_lead(content: Content) -> str:
    """Return sentences on how many runs a report has, what they are of, and what scores them."""
    runs = drop_trials(content.runs)
    n_trials = len(content.runs) - len(runs)
    n_done = int((runs["state"] == "done").sum()) if len(runs) else 0
    names = [name_dataset(str(name)) for name in dict.fromkeys(content.cells.get("dataset", []))]
    datasets = f"{len(names)} datasets" if len(names) > _MAX_NAMES else ""
    datasets = datasets or (join_words(names) if names else "")
    unfinished = f" (of {len(runs):,})" if n_done < len(runs) else ""
    split = "test" if content.metric.startswith("test/") else "validation"
    scope = ", ".join(_list_scope(content))
    trials = f" {count(n_trials, 'further run')} of a search served only to choose settings."
    return (
        f"{count(n_done, 'finished run')}{unfinished} in {count(len(content.cells), 'cell')}"
        f"{f' on {datasets}' if datasets else ''}{f' ({scope})' if scope else ''}. A research "
        f"report: no result here is for clinical use.{trials if n_trials else ''} Cells are "
        f"judged by {name_metric(content.metric)} on the {split} images; the epoch of each run "
        f"and the best cell are chosen on validation images alone. {write_drawn(content)}".rstrip()
    )


def _list_scope(content: Content) -> Iterator[str]:
    """Yield the networks, pixels, epochs, seeds and splits that the finished runs are about."""
    runs = drop_trials(content.runs)
    done = runs[runs["state"] == "done"] if len(runs) else runs
    plans = [plan for plan in done.get("plan", ()) if isinstance(plan, PlanRecord)]
    cells = content.cells
    models = list(dict.fromkeys(map(str, cells.get("model", ()))))
    if models:
        yield join_words(models) if len(models) <= _MAX_NAMES else f"{len(models)} networks"
    sizes = _write_span(plan.image_size for plan in plans)
    if sizes:
        yield f"images of {sizes} pixels to a side"
    epochs, seeds = _write_span(p.epochs for p in plans), _write_span(cells.get("n_seeds", ()))
    if epochs:
        yield f"{epochs} epoch{'s' * (epochs != '1')}"
    if seeds:
        yield f"{seeds} seed{'s' * (seeds != '1')} a cell"
    datasets = {plan.dataset for plan in plans}
    splits = {(plan.dataset, plan.settings.get("dataset.split_seed")) for plan in plans}
    several = ("dataset.folds", "dataset.hold_out")
    has_several = any(plan.settings.get(key) for plan in plans for key in several)
    if len(splits) == len(datasets) > 0 and not has_several:
        yield "one split" + " of each dataset" * (len(datasets) > 1)


def _write_span(values: Iterable[int | None]) -> str:
    """Return `3`, or `3 to 10` where values differ; empty without any."""
    numbers = sorted({int(value) for value in values if value})
    return " to ".join(map(str, numbers if len(numbers) < 2 else (numbers[0], numbers[-1])))


def write_drawn(content: Content) -> str:
    """Return which datasets are drawn by a program, as a sentence; empty where none is."""
    names = {p.dataset for p in _list_plans(content) if p.settings.get("dataset.kind") in _DRAWN}
    if not names:
        return ""
    drawn = join_words([name_dataset(name) for name in sorted(names)])
    return (
        f"The images of {drawn} are drawn by a program: they are not medical images, and the "
        "results say nothing about patients."
    )
