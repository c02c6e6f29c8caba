"""What a report says, before it is rendered: plain frames and texts, nothing of HTML or LaTeX."""

import math
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Finding:
    """One question, answered in words with numbers.

    Attributes:
        key: `imagenet_vs_random`, `best_cell`, `finetuning`, `chain` or `layers`.
        question: as a person would ask it.
        verdict: one or two words: `yes`, `no`, `inconclusive`, `not measured`, ...
        answer: one or two sentences, with numbers, intervals and n.
        details: more sentences: what it rests on, what could be detected, the command to run.
        dataset: what it was measured on; empty for all.
        comparisons: rows of `Content.comparisons` (its index) that it rests on.
        is_open: whether none of its comparisons (for layers, no unit) has a verdict.
        is_measured: whether the runs ask the question at all; a paper leaves out the others.
    """

    key: str
    question: str
    verdict: str
    answer: str
    details: tuple[str, ...] = ()
    dataset: str = ""
    comparisons: tuple[int, ...] = ()
    is_open: bool = False
    is_measured: bool = True


@dataclass(frozen=True)
class Grid:
    """Scores over k (transferred) and j (frozen) of one dataset, model, source and recipe.

    Attributes:
        units: names of units 1..L, from the input on.
        table: columns k, j, value, low, high, n_seeds, val (validation mean), cell (key of
            `Content.cells`), label. One row a cell; k = 0 is random.
        best: `cell` of the best on validation.
        recipe: settings that tell it from other grids of the same names, as text; may be empty.
        source_name: the source in words, e.g. `ImageNet → HAM10000`.
    """

    dataset: str
    model: str
    init: str
    metric: str
    units: tuple[str, ...]
    table: pd.DataFrame
    best: str
    recipe: str = ""
    source_name: str = ""


@dataclass(frozen=True)
class LayerScores:
    """How general or specific each unit is (Yosinski et al. 2014, arXiv:1411.1792).

    Attributes:
        source: A, e.g. `imagenet`.
        curves: columns arm (full, frozen, base, AnB, AnB+, BnB, BnB+, random-frozen), n, value,
            low, high, n_seeds. `full` and `base` have n = 0.
        scores: one row for n = 1..L: n, unit, then for F, S, C, G, gamma and `S_control` (S of a
            source of as many images as the network's own) each `<name>`, `<name>_low`,
            `<name>_high`; `verdict` (general | specific | better | undetermined | not measured),
            `p_general`, `p_specific` and `p_better` (see `UnitScores.p_values`; NaN where not
            tested), `margin`, `image_ratio`, `note`. F, S, C, G are in units of the metric (0.01
            is one point).
        margin: delta, in units of the metric.
        source_name: the source in words.
        basis: the gap that the verdicts rest on, F or S.
        image_ratio: how many times as many images as the network's own weights the source was
            trained on; NaN if unknown.
        margin_note: a sentence on where the margin comes from.
    """

    dataset: str
    model: str
    source: str
    metric: str
    units: tuple[str, ...]
    curves: pd.DataFrame
    scores: pd.DataFrame
    margin: float
    recipe: str = ""
    source_name: str = ""
    basis: str = "F"
    image_ratio: float = math.nan
    margin_note: str = ""


@dataclass(frozen=True)
class LayerMeasures:
    """What measures of the networks say of each unit, beside the costs of freezing.

    Attributes:
        source: of the units, e.g. `imagenet`.
        units: names of units 1..L.
        cell: the label of the cell whose networks were measured.
        readings: one row a measure, variant and unit: measure (its key), title, variant,
            is_shown (in figures and printed tables), n, unit, value, low, high, null, ceiling,
            n_seeds, n_images, over (what the interval covers), note, digits (after the point).
        agreement: one row a shown measure and variant: measure, title, variant, tau, n_units,
            depth (the n that it points to; NaN for none), standing (of the depth beside that of
            the costs). See `tlcnn.study.measures.Agreement`.
        costs: the layer scores of the same source; None where no cost was measured.
        cost_depth: the largest n whose cost is below the margin, and the least and the greatest
            n that the verdicts leave open; None without costs.
        summary: how the measures agree with the costs, in sentences.
        sentences: pairs of a measure's name, and sentences on what it looks at and says.
    """

    dataset: str
    model: str
    source: str
    units: tuple[str, ...]
    cell: str
    readings: pd.DataFrame
    agreement: pd.DataFrame
    costs: LayerScores | None
    cost_depth: tuple[int, int, int] | None
    summary: str
    sentences: tuple[tuple[str, str], ...]
    recipe: str = ""
    source_name: str = ""


@dataclass(frozen=True)
class ExternalScores:
    """What cells scored on datasets that they were not trained on.

    Attributes:
        cells: one row for each tested cell or ensemble: cell (its key), label, trained_on,
            tested_on, split, model, recipe, n_images, n_groups, n_classes (with images), seeds
            (a list; None for an ensemble), n_networks (of an ensemble), run_ids, images (the
            digest of the tested images), over (what the interval is over), for each metric
            `<metric>`, `<metric> low` and `<metric> high`, note (on the interval of the first),
            and remarks (sentences on the images and classes).
        comparisons: of sources on the same images, with the columns of `Content.comparisons`;
            `dataset` names what the networks were trained and tested on.
    """

    cells: pd.DataFrame
    comparisons: pd.DataFrame


@dataclass(frozen=True)
class Content:
    """All that a report says.

    Attributes:
        metric: the primary metric, `test/balanced_accuracy`.
        metrics: further metrics shown in tables.
        runs: what `read_runs` returned, all states; `folder` leads to the rest.
        left_out: a line for everything that is not in the tables, and why.
        cells: one row a cell (runs that differ in the seed alone): cell (key), label (readable),
            dataset, model, init, k, j, bn, source (in words), recipe (as text), difference (the
            settings that tell it from cells of the same label, as text), seeds, n_seeds, run_ids
            and folders (lists), and for each metric `<metric>`, `<metric> low`, `<metric> high`,
            `<metric> sd`; `note`; `held_out` (in words) where any cell holds something out.
        comparisons: a, b (cell keys), a_label, b_label, family (its name) and family_size (the
            comparisons that p_holm is adjusted for), dataset, model, delta, low, high, p, p_holm,
            p_swap, p_seed, p_equivalent, p_equivalent_holm, margin, verdict, detectable (the
            smallest true difference that is found in 80 % of studies), n_seeds, note, remarks
            (the parts of the note).
        detectable: one row a family: family, family_size, n_seeds, se_seeds and se_groups (parts
            of the standard error, see `tlcnn.statistics.variance.Noise`), and the smallest
            difference that is found in 80 % of studies now, with more seeds, and with more test
            groups.
        measures: what measures of the networks say, one for each source that was analysed.
        highlights: a few cells by role (`best`, `full`, `random`, ...) per dataset, for the
            figures that show one cell: list of (dataset, role, cell).
        calibration: a row for each of these that was trained with class weights: dataset, model,
            cell, label, and the numbers of `tlcnn.study.calibration.measure_calibration`.
        external: scores on other datasets; None where there are none.
        held_out: a row for each held-out value of cells that differ in it alone, and one for their
            mean: dataset, model, label, recipe, column, cell, tested (in words), n_images,
            n_groups, n_seeds, value, low, high, note.
        subgroups: a row for each subgroup of the test images of one cell for each dataset and
            model, where subgroups were asked for; see `tlcnn.report.subgroups`.
        undivided: the datasets without a column that subgroups were asked for by.
        provenance: sections of (name, value) pairs: data manifests, weights, versions, commit,
            hardware.
        assumptions: sentences on what the statistics take for granted.
    """

    title: str
    created: str
    metric: str
    metrics: tuple[str, ...]
    runs: pd.DataFrame
    left_out: tuple[str, ...]
    cells: pd.DataFrame
    comparisons: pd.DataFrame
    findings: tuple[Finding, ...]
    detectable: pd.DataFrame = field(default_factory=pd.DataFrame)
    grids: tuple[Grid, ...] = ()
    layers: tuple[LayerScores, ...] = ()
    measures: tuple[LayerMeasures, ...] = ()
    highlights: tuple[tuple[str, str, str], ...] = ()
    calibration: pd.DataFrame = field(default_factory=pd.DataFrame)
    external: ExternalScores | None = None
    held_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    subgroups: pd.DataFrame = field(default_factory=pd.DataFrame)
    undivided: tuple[str, ...] = ()
    provenance: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    assumptions: tuple[str, ...] = ()
