"""The captions of tables, for the page, the paper and report.md alike."""

from collections.abc import Sequence

from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.content import Content
from tlcnn.report.method_sentences import describe_guessing
from tlcnn.report.numbers import describe_metric, name_unit
from tlcnn.report.words import name_dataset
from tlcnn.statistics.estimate import LEAST_PAIRS

PAIRING = (
    "Cells that were tested on the same images are paired by test group. They are paired by seed "
    f"as well if they have {LEAST_PAIRS} or more common seeds, and if these are at least two "
    "thirds of the seeds of each cell. Otherwise the variances between the seeds of both cells "
    "are added (Welch's t test)."
)

_CALIBRATION = (
    "Errors of the predicted probabilities (ECE, NLL, Brier score), and the mean probability of a "
    "class, which should be its share of the test images. "
    "Class weights in the loss raise the probabilities of rare classes. A corrected probability "
    "is divided by the weight of its class, and those of an image are scaled to a sum of 1 (prior "
    "correction, Saerens et al. 2002): it holds for the class proportions of the training images, "
    "and is no patient's risk in a clinic. "
    "Each entry is the mean over seeds, as the network gives it → corrected."
)

_MAX_NAMES = 4  # cells that a sentence names one by one

# What a layer score is, in the order of a table's columns.
_LAYER_SCORES = {
    "F": "F is the cost of freezing the source's units, against training all of them.",
    "S": "S is the loss of the source's frozen units against the network's own; it also depends "
    "on how many images the source was trained on, and the ratio to the network's own stands "
    "beside it.",
    "C": "C is the loss from freezing the network's own units.",
    "G": "G is the gain of transferred units when all units are trained.",
    "gamma": "γ is 1 where the source's units are as good as the network's own, and 0 where they "
    "are no better than random ones.",
}

RUNS = (
    "Where the best epoch is the last one, more epochs may help. Times of training are those of "
    "the machines as they were, whatever else ran on them."
)


def describe_comparisons(content: Content) -> str:
    """Return what the table of comparisons holds."""
    unit = f", in {name_unit(content.metric)}" if name_unit(content.metric) else ""
    lines = [
        f"Differences Δ of {describe_metric(content.metric)}{unit}: the first score minus the "
        "second, taken before rounding, with unadjusted 95 % intervals, and p values adjusted by "
        "Holm within each family. A family is one question about one dataset, model and recipe.",
        PAIRING,
    ]
    if any(f.key in ("best_cell", "finetuning") and f.comparisons for f in content.findings):
        lines.insert(
            1, "“Chosen on validation” stands for the cells that validation chose for each seed."
        )
    return " ".join(lines)


def describe_detectable(content: Content) -> str:
    """Return what the table of detectable differences holds."""
    unit = f", in {name_unit(content.metric)}," if name_unit(content.metric) else ""
    lines = [
        f"The smallest true difference{unit} that is found in 80 % of studies: now, with other "
        "numbers of seeds for each cell, and with more test groups. It is computed for the first "
        "step of Holm's method, which is the strictest in a family. It follows from the "
        "variances, pooled over all pairs of cells of a dataset, model and recipe, and not from "
        "the differences that were observed.",
        "The error from seeds falls with their number alone. The error from test groups falls "
        "with the number of groups, and in part with that of seeds. Their squares sum to the "
        "square of a difference's standard error.",
    ]
    if content.layers:
        lines.append(
            "Where the margin δ of the layers is computed, it rests on another error: on what "
            "test groups leave with any number of seeds, pooled over the costs of freezing alone "
            "and not over all pairs of cells."
        )
    return " ".join(lines)


def describe_calibration(content: Content) -> str:
    """Return what the table of calibration holds, and where the correction made it worse."""
    frame = content.calibration
    worse = frame[frame["ece corrected"].round(3) > frame["ece"].round(3)] if len(frame) else frame
    names = [
        f"{row['label']} ({name_dataset(row['dataset'])})" for row in worse.to_dict("records")
    ]
    return f"{_CALIBRATION}{describe_worsened(names, len(frame))}"


def describe_worsened(names: Sequence[str], n_cells: int) -> str:
    """Return for which of some cells the correction made ECE larger; empty for none."""
    if not names:
        return ""
    listed = f": {'; '.join(names)}" if len(names) <= _MAX_NAMES else ""
    return f" The correction made ECE larger for {len(names)} of {n_cells} cells{listed}."


def describe_layers(content: Content) -> str:
    """Return what the scores of layers are, of those that were measured; empty without any."""
    parts = [layers.scores for layers in content.layers]
    measured = [n for n in _LAYER_SCORES if any(n in p and p[n].notna().any() for p in parts)]
    if not measured:
        return ""
    after = ", after Yosinski et al. (2014)" if set(measured) - {"F"} else ""
    meanings = [_LAYER_SCORES[name] for name in measured]
    return " ".join([f"Scores of the first n units together{after}.", *meanings])


def describe_cells(content: Content) -> str:
    """Return what the table of cells holds."""
    held_out = " and held-out value" if "held_out" in content.cells else ""
    lines = [
        "A cell is one choice of source, transferred units k, frozen units j, and recipe. Its "
        "runs differ in the seed alone. Entries are means over seeds on the test images, with "
        "95 % intervals.",
        f"Bold is the best mean of a dataset{held_out} in a column. Nothing was chosen by it, as "
        "cells are chosen on validation, and the best of many means is too good by luck.",
    ]
    plans = [plan for plan in content.runs.get("plan", ()) if isinstance(plan, PlanRecord)]
    lines += dict.fromkeys(filter(None, map(describe_guessing, plans)))
    if len(content.calibration) and "test/nll" in content.metrics:
        lines.append(
            "The negative log-likelihood is that of the probabilities as networks give them, "
            "without a correction for class weights; the table of calibration has both."
        )
    return " ".join(lines)
