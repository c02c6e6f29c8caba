"""What a report explains of itself: its first sentences and its words."""

from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.content import Content
from tlcnn.report.words import join_words, name_dataset, name_metric
from tlcnn.text import count

GLOSSARY = (
    (
        "source",
        "what the transferred weights were trained on: “A → B” means on A, and then on B; where A "
        "is a dataset of yours, training on it began with random weights",
    ),
    ("unit", "a block of layers that is transferred or frozen as a whole, counted from the input"),
    ("k", "the number of units that start from the source's weights; the others start at random"),
    ("j", "the number of frozen units: training leaves them bitwise as they were"),
    (
        "balanced accuracy",
        "the mean recall over classes: a rare class counts as much as a frequent one",
    ),
    (
        "point",
        "a hundredth: from 61 % to 62 % is one point; differences are taken before rounding",
    ),
    ("seed", "the number that decides a run's random start, order of images and augmentation"),
    ("run", "one training of one network, tested once"),
    ("cell", "one choice of source, k, j and recipe; its runs differ in the seed alone"),
    (
        "interval",
        "a 95 % confidence interval for the mean over new seeds and new test images: of many such "
        "intervals, each from a study of its own, about 95 % hold the true value",
    ),
    ("p", "the probability of a difference at least as large if there were none in truth"),
    ("adjusted p", "p raised for the number of comparisons (Holm); the interval is not adjusted"),
    ("equivalent", "the difference is shown to be smaller than its margin, in either direction"),
    ("inconclusive", "neither a difference nor equivalence is shown; it does not mean “equal”"),
    (
        "AnB",
        "a network whose first n units come from the source (A) and are frozen, while the others "
        "start at random and are trained on the target (B)",
    ),
    ("BnB", "the same, but its first n units come from a network trained on the target itself"),
    ("general", "of the first n units: frozen, they are shown to cost less than δ"),
    ("specific", "of the first n units: frozen, they are shown to cost more than δ"),
)
_MAX_NAMES = 4  # datasets that are named one by one
_DRAWN = ("synthetic", "planted")  # kinds of datasets whose images a program draws


def write_lead(content: Content) -> str:
    """Return two sentences on how many runs a report has, on which datasets, and their score."""
    runs = content.runs
    n_done = int((runs["state"] == "done").sum()) if len(runs) else 0
    names = [name_dataset(str(name)) for name in dict.fromkeys(content.cells.get("dataset", []))]
    datasets = f"{len(names)} datasets" if len(names) > _MAX_NAMES else ""
    datasets = datasets or (join_words(names) if names else "")
    unfinished = f" (of {len(runs):,})" if n_done < len(runs) else ""
    split = "test" if content.metric.startswith("test/") else "validation"
    return (
        f"{count(n_done, 'finished run')}{unfinished} in {count(len(content.cells), 'cell')}"
        f"{f' on {datasets}' if datasets else ''}, judged by {name_metric(content.metric)} on "
        f"the {split} images. The epoch of each run and the best cell are chosen on validation "
        f"images alone. {write_drawn(content)}".rstrip()
    )


def write_drawn(content: Content) -> str:
    """Return which datasets are drawn by a program, as a sentence; empty where none is."""
    plans = [plan for plan in content.runs.get("plan", ()) if isinstance(plan, PlanRecord)]
    names = {p.dataset for p in plans if p.settings.get("dataset.kind") in _DRAWN}
    if not names:
        return ""
    drawn = join_words([name_dataset(name) for name in sorted(names)])
    return (
        f"The images of {drawn} are drawn by a program: they are not medical images, and the "
        "results say nothing about patients."
    )
