"""What tables hold and what the statistics assume, for the page, the paper and report.md alike."""

from tlcnn.records.plan_record import PlanRecord
from tlcnn.report.content import Content
from tlcnn.report.method_sentences import describe_guessing
from tlcnn.report.numbers import name_unit
from tlcnn.statistics.estimate import LEAST_PAIRS

PAIRING = (
    "Cells that were tested on the same images are paired by test group. They are paired by seed "
    f"as well if they have {LEAST_PAIRS} or more common seeds, and if these are at least two "
    "thirds of the seeds of each cell. Otherwise the variances between the seeds of both cells "
    "are added (Welch's t test)."
)

CALIBRATION = (
    "Errors of the predicted probabilities (ECE, NLL, Brier score), and the mean probability of a "
    "class, which should be its share of the test images. "
    "Class weights in the loss raise the probabilities of rare classes. A corrected probability "
    "is divided by the weight of its class, and those of an image are scaled to a sum of 1 (prior "
    "correction, Saerens et al. 2002): it holds for the class proportions of the training images. "
    "Each entry is the mean over seeds, as the network gives it → corrected."
)


def describe_detectable(metric: str) -> str:
    """Return what the table of detectable differences holds."""
    unit = f", in {name_unit(metric)}," if name_unit(metric) else ""
    return (
        f"The smallest true difference{unit} that is found in 80 % of studies: now, with other "
        "numbers of seeds for each cell, and with more test groups. It is computed for the first "
        "step of Holm's method, which is the strictest in a family. It follows from the "
        "variances, pooled over the cells, and not from the differences that were observed."
    )


def describe_cells(content: Content) -> str:
    """Return what the table of cells holds."""
    lines = [
        "A cell is one choice of source, transferred units k, frozen units j, and recipe. Its "
        "runs differ in the seed alone. Entries are means over seeds on the test images, with "
        "95 % intervals.",
        "Bold is the best mean of a dataset in a column. Nothing was chosen by it, as cells are "
        "chosen on validation, and the best of many means is too good by luck.",
    ]
    plans = [plan for plan in content.runs.get("plan", ()) if isinstance(plan, PlanRecord)]
    lines += dict.fromkeys(filter(None, map(describe_guessing, plans)))
    if len(content.calibration) and "test/nll" in content.metrics:
        lines.append(
            "The negative log-likelihood is that of the probabilities as networks give them, "
            "without a correction for class weights; the table of calibration has both."
        )
    return " ".join(lines)
