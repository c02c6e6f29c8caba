"""What tables hold and what the statistics assume, for the page, the paper and report.md alike."""

from tlcnn.report.content import Content
from tlcnn.report.numbers import name_unit
from tlcnn.statistics.estimate import LEAST_PAIRS

PAIRING = (
    "Cells that were tested on the same images are paired by test group. They are paired by seed "
    f"as well if they have {LEAST_PAIRS} or more common seeds, and if these are at least two "
    "thirds of the seeds of each cell. Otherwise the variances between the seeds of both cells "
    "are added (Welch's t test)."
)

ASSUMPTIONS = (
    "The seeds stand for all seeds. A run's seed decides its fresh weights, the order of images, "
    "their augmentation and, with init=task and init=self, the source that was trained for it. "
    "Nothing else differs between the runs of one cell.",
    "The test groups (lesions, source tiles) of each class stand for all groups of the class: the "
    "intervals hold for new groups with the same class proportions.",
    "An interval is Student's t over the variance between seeds and the variance that test groups "
    "share between seeds (a bootstrap over groups, class by class).",
    PAIRING,
    "The p of a difference is the larger of a sign-flip permutation over groups (these networks, "
    "new lesions) and a t test with both variances (new seeds too), adjusted by Holm within its "
    "family. Where a class has fewer than 5 test groups there is no t test: p is that of the "
    "permutation, and there is no verdict.",
    "Choices on validation (of the best cell, of a tuned setting) are crossed over seeds: each "
    "half of the seeds has the choice of the other half, so that no network is chosen by itself.",
    "A family is one question about one dataset, model and recipe. Nothing else that was trained "
    "changes its p values.",
    "“Equivalent” needs two one-sided tests at 5 % within the margin, adjusted by Holm for their "
    "number in the family. “Inconclusive” is a result: neither a difference nor its absence is "
    "shown.",
    "What could be detected follows from the variances, which are pooled over the cells of a "
    "dataset, model and recipe, and not from the differences that were observed.",
    "The split and the recipe are held fixed, so nothing is said of others. So are source weights "
    "that were read from a file or from one run. Where each seed trained a source of its own, as "
    "with init=task and init=self, the intervals cover the luck of the source too.",
)

FOLDS = (
    "With folds, a seed is scored on the images of all folds together. Folds share training "
    "images, so intervals are widened (Nadeau and Bengio 2003; repeated folds: Bouckaert and "
    "Frank 2004)."
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
    if len(content.calibration) and "test/nll" in content.metrics:
        lines.append(
            "The negative log-likelihood is that of the probabilities as networks give them, "
            "without a correction for class weights; the table of calibration has both."
        )
    return " ".join(lines)
