"""What a report explains of itself: its first sentences and its words."""

from tlcnn.report.content import Content
from tlcnn.report.words import join_words, name_dataset, name_metric
from tlcnn.text import count

GLOSSARY = (
    ("unit", "a block of layers that is transferred or frozen as a whole, counted from the input"),
    ("k", "the number of units that start from the source's weights; the others start at random"),
    ("j", "the number of frozen units: training leaves them bitwise as they were"),
    ("balanced accuracy", "the mean recall over classes, so that a rare class counts as much"),
    ("point", "a hundredth: from 61 % to 62 % is one point"),
    ("interval", "the range that holds the true value in 95 of 100 such studies"),
    ("adjusted p", "corrected for the number of comparisons (Holm); the interval is not"),
    ("cell", "one choice of source, k, j and recipe; its runs differ in the seed alone"),
)
_MAX_NAMES = 4  # datasets that are named one by one


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
        f"the {split} images. Epochs and cells are chosen on validation images alone."
    )
