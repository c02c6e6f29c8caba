"""What the statistics of a report assume and how they are computed, for all formats alike."""

from collections.abc import Iterator

from tlcnn.report.captions import PAIRING
from tlcnn.report.content import Content
from tlcnn.report.content_tables import count_layer_digits
from tlcnn.report.detectable import DETECTABLE
from tlcnn.report.grid import describe_transfer
from tlcnn.report.numbers import write_gap
from tlcnn.report.words import join_words
from tlcnn.statistics.comparison import N_PERMUTATIONS
from tlcnn.statistics.few_groups import RULE
from tlcnn.statistics.ranking import N_BINS
from tlcnn.statistics.resample import N_DRAWS
from tlcnn.study.layers import LEVEL

ASSUMPTIONS = (
    "The seeds stand for all seeds. A run's seed decides its fresh weights, the order of images, "
    "their augmentation and, where each seed has a source of its own, the training of that "
    "source. Nothing else differs between the runs of one cell. A standard deviation (sd) is that "
    "of the scores of a cell's seeds, with their number less one as the divisor.",
    "A test group is what the split does not divide: the images of one lesion or of one source "
    "tile, for example. The test groups of each class stand for all groups of the class: the "
    "intervals hold for new groups with the same class proportions.",
    "An interval is Student's t over the variance between seeds and the variance that test groups "
    f"share between seeds (a bootstrap of {N_DRAWS:,} draws over groups, class by class; Rao and "
    "Wu 1988). Its degrees of freedom are those of Satterthwaite (1946), at least 1.",
    PAIRING,
    "The p of a difference is the larger of two: that of a sign-flip permutation over groups "
    f"(these networks, new groups; {N_PERMUTATIONS:,} permutations, or all if there are fewer; "
    "Phipson and Smyth 2010), and that of a t test with both variances (new seeds too). It is "
    f"adjusted by Holm (1979) within its family. {RULE} There is no t test then either: p is that "
    "of the permutation.",
    "Choices on validation (of the best cell, of a tuned setting) are crossed over seeds: the "
    "seeds are split into two groups, and each group is scored with what the other one chose, so "
    "that no network is chosen by itself.",
    "A family is one question about one dataset, model and recipe. Nothing else that was trained "
    "changes its p values. Errors are controlled within a family, and not over the whole report.",
    "“Equivalent” needs the 95 % interval within the margin, and two one-sided tests at 5 % "
    "(Schuirmann 1987), adjusted by Holm for their number in the family. “Inconclusive” is a "
    "result: neither a difference nor its absence is shown.",
    f"What could be detected is {DETECTABLE}. It "
    "follows from the variances, which are pooled over the cells of a dataset, model and recipe, "
    "and not from the differences that were observed (Hoenig and Heisey 2001).",
    "The split and the recipe are held fixed, so nothing is said of others. So are source weights "
    "that were read from a file or from one run. Where each seed trained a source of its own, the "
    "intervals cover the luck of the source too.",
)

FOLDS = (
    "With folds, a seed is scored on the images of all folds together. Folds share training "
    "images, so intervals are widened (Nadeau and Bengio 2003; repeated folds: Bouckaert and "
    "Frank 2004)."
)


def describe_margin(content: Content) -> Iterator[str]:
    """Yield the margin of equivalence, and that no interval is narrow enough, if that is so."""
    frame = content.comparisons
    frame = frame.dropna(subset=["low", "high"]) if len(frame) else frame
    if frame.empty:
        return
    margin, metric = float(frame["margin"].iloc[0]), content.metric
    yield f"The margin of equivalence was {write_gap(margin, metric)}, in either direction."
    narrowest = float((frame["high"] - frame["low"]).min()) / 2
    if narrowest >= margin:
        yield (
            "No interval was narrow enough to show equivalence, however alike two cells are: the "
            f"narrowest reaches {write_gap(narrowest, metric)} to either side."
        )


_GAPS = {
    "F": "the freezing cost F(n), the mean score of networks that train all units less that of "
    "networks that freeze the first n, all units being transferred",
    "S": "the specificity gap S(n), the mean score of networks whose first n units are frozen and "
    "come from a network that was trained on the target itself, less that of networks with the "
    "source's units there",
}


def describe_layers(content: Content) -> Iterator[str]:
    """Yield how general and specific layers were told; nothing without an answer on them."""
    for basis in dict.fromkeys(part.basis for part in content.layers):
        yield f"The first n units were judged by {_GAPS[basis]} (after Yosinski et al. 2014)."
    if not content.layers:
        return
    metric = content.metric
    margins = [
        f"{write_gap(part.margin, metric, count_layer_digits(part))} ({describe_transfer(part)})"
        for part in content.layers
    ]
    yield (
        "Two one-sided t tests of each n, with the standard errors and degrees of freedom of the "
        f"intervals, asked whether it is below the margin δ and whether it is above it, at "
        f"{100 * LEVEL:g} %. The p values of each side were adjusted over n by Holm's method. "
        "“General” (below) and “specific” (above) also need the 95 % interval on that side of δ. "
        "These tests form families of their own, one for each source on a dataset, model and "
        f"recipe. δ was {join_words(margins)}."
    )
    frame = content.comparisons
    if len(frame):
        size = write_gap(float(frame["margin"].iloc[0]), metric)
        yield (
            f"“Equivalent” (margin {size}) and “general” (margin δ) answer two questions, so the "
            "same two cells may be inconclusive by the first and general by the second."
        )


_MEASURES = {
    "probe": "linear probes (Alain and Bengio 2017)",
    "logme": "LogME (You et al. 2021)",
    "cka": "CKA (Kornblith et al. 2019)",
    "svcca": "SVCCA (Raghu et al. 2017)",
    "reinit": "resetting of units (Zhang et al. 2022)",
    "gradient": "gradient norms (Lee et al. 2023)",
    "stitch": "stitching (Bansal et al. 2021)",
}


def describe_measures(content: Content) -> Iterator[str]:
    """Yield which published measures of the networks were computed, if any."""
    keys = {str(key) for part in content.measures for key in part.readings["measure"]}
    names = [name for key, name in _MEASURES.items() if key in keys]
    if names:
        yield f"Measures of the networks were computed after {join_words(names)}."


def describe_errors(content: Content) -> Iterator[str]:
    """Yield what the errors of probabilities are, if a table has them."""
    if len(content.calibration):
        yield (
            "The expected calibration error (ECE; Guo et al. 2017) is the mean gap between the "
            "probability of the predicted class and the share of right predictions, in "
            f"{N_BINS} bins of equally many images. NLL is the mean negative log-likelihood of "
            "the true class. Probabilities were corrected for class weights after Saerens et al. "
            "(2002)."
        )
