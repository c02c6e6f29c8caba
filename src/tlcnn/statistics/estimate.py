"""Intervals of means over seeds, of differences between cells, and of ratios of those.

The score of seed s on a test sample is  mu + A_s + L + (AL)_s:  the seed's own effect, the
sample's, which all seeds share, and what the sample does to this seed alone. The variance of a
mean over S seeds is then

    (var A + var AL) / S  +  var L

The first sum is what scores of different seeds vary by, s^2. The last is the covariance of two
seeds' scores under redraws of the test groups, T. So  se^2 = s^2 / S + T.  The bootstrap variance
of the mean over seeds would count AL twice. With folds, T is the corrected variance of the folds.
Where the networks are fixed, no seed is drawn, and the bootstrap variance is the whole of it.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from tlcnn.statistics.arm import Arm, Estimate
from tlcnn.statistics.notes import Note, NoteKind, Notes, merge_notes
from tlcnn.statistics.variance import ROUNDING, Parts, combine_df, compute_quantile

Term = tuple[float, Arm]
Terms = Sequence[Term]
LEAST_PAIRS = 5  # common seeds by which two cells are paired


def estimate_contrast(terms: Terms) -> Estimate:
    """Return the 95 % interval of sum c_a M(a) over new seeds and new test groups.

    Arms with the same seeds are paired by seed; see `choose_seeds` for those with others.

    Args:
        terms: (coefficient, arm) pairs; one (1, arm) is the mean of a cell.
    """
    return make_estimate(compute_parts(terms))


def make_estimate(parts: Parts) -> Estimate:
    """Return value ± t se: Student's 95 % interval, df by Satterthwaite (1946).

    It ends where the values that the contrast can have end. Where all runs and all test groups
    gave one number, nothing is known of the variance, and there is no interval.
    """
    nothing = make_unknown(parts.value, parts.n_seeds, parts.notes)
    if not np.isfinite(parts.value):
        return replace(nothing, notes=merge_notes(parts.notes, [Note(NoteKind.UNDEFINED)]))
    if not np.isfinite(parts.variance):
        return nothing
    if parts.se < ROUNDING:
        return replace(nothing, notes=merge_notes(parts.notes, [Note(NoteKind.ALL_EQUAL)]))
    se, df = parts.se, parts.df
    half = compute_quantile(df, 0.975) * se
    low, high = np.clip([parts.value - half, parts.value + half], *parts.bounds).tolist()
    return Estimate(parts.value, se, df, low, high, parts.n_seeds, parts.notes)


def make_unknown(value: float, n_seeds: int, notes: Notes = ()) -> Estimate:
    """Return a number without an interval."""
    nan = float("nan")
    return Estimate(value, nan, nan, nan, nan, n_seeds, notes)


def compute_parts(terms: Terms) -> Parts:
    """Return a contrast and what its variance is made of.

    Arms of different test images are independent of each other. Within one sample T is the sum
    over pairs of arms of c_a c_b times the mean covariance of their replicates over pairs of
    different seeds, clamped at 0.
    """
    merged: dict[int, Term] = {}  # an arm that comes twice is one
    for coefficient, arm in terms:
        merged[id(arm)] = (merged.get(id(arm), (0.0, arm))[0] + coefficient, arm)
    blocks = [_compute_block(block) for block in _split_samples(list(merged.values()))]
    notes = merge_notes(*(block.notes for block in blocks))
    if len(blocks) > 1:
        arms = [arm for _, arm in terms]
        is_known = all(arm.sample is not None for arm in arms) or all(arm.images for arm in arms)
        is_mixed = len({arm.folds for arm in arms}) > 1
        kind = NoteKind.OTHER_IMAGES if is_known or is_mixed else NoteKind.MAYBE_OTHER_IMAGES
        notes = merge_notes(notes, [Note(kind)])
    return Parts(
        value=sum(block.value for block in blocks),
        seeds=tuple(part for block in blocks for part in block.seeds),
        test=sum(block.test for block in blocks),
        test_df=combine_df([(block.test, block.test_df) for block in blocks]),
        notes=notes,
        most_df=min(block.most_df for block in blocks),
        bounds=_find_bounds(merged.values()),
    )


def _find_bounds(terms: Iterable[Term]) -> tuple[float, float]:
    """Return the least and the greatest value that a contrast can have."""
    ends = [sorted(c * bound for bound in arm.bounds) for c, arm in terms if c]
    return sum(low for low, _ in ends), sum(high for _, high in ends)


def _split_samples(terms: Terms) -> list[list[Term]]:
    """Return the terms by test images.

    The predictions of an arm name its images. An arm without predictions goes with those whose
    record names the same images. Arms with neither are taken for one set.
    """
    samples = {arm.images: arm.sample.name for _, arm in terms if arm.sample and arm.images}
    blocks: dict[Hashable, list[Term]] = {}
    for term in terms:
        arm = term[1]
        sample = samples.get(arm.images, "") if arm.sample is None else arm.sample.name
        key = (sample, "" if sample else arm.images, arm.folds)
        blocks.setdefault(key, []).append(term)
    return list(blocks.values())


def _compute_block(terms: list[Term]) -> Parts:
    """Return the parts of a contrast of arms that were scored on the same images."""
    is_difference = abs(sum(c for c, _ in terms)) < ROUNDING
    seeds, pairing = choose_seeds([arm for _, arm in terms], is_difference=is_difference)
    notes = merge_notes(*(arm.notes for _, arm in terms), pairing)
    if seeds is not None:
        terms = [(c, pick_seeds(arm, seeds)) for c, arm in terms]
        pairs = np.sum([c * arm.scores for c, arm in terms], axis=0)
        variances = [_compute_variance(pairs, max(arm.spread for _, arm in terms))]
    else:
        variances = [_compute_variance(c * arm.scores, arm.spread) for c, arm in terms]
    value = float(sum(c * arm.mean for c, arm in terms))
    if terms[0][1].folds:
        variances = [(variance if n > 1 else 0.0, n) for variance, n in variances]
        test, test_df = _compute_fold_variance(terms)
        return Parts(value, tuple(variances), test, test_df, notes, most_df=test_df)
    if all(arm.is_fixed for _, arm in terms):
        variances = [(0.0, n) for _, n in variances]
    elif min(n for _, n in variances) == 1:
        notes = merge_notes(notes, [Note(NoteKind.ONE_SEED)])
        return Parts(value, tuple(variances), float("nan"), float("nan"), notes)
    bare = [arm for _, arm in terms if arm.replicates is None]
    if bare:
        if len(bare) < len(terms):
            notes = merge_notes(notes, [Note(NoteKind.PARTLY_KNOWN)])
        if any(not arm.notes for arm in bare):
            notes = merge_notes(notes, [Note(NoteKind.SEEDS_ALONE)])
        return Parts(value, tuple(variances), 0.0, float("inf"), notes)
    return Parts(value, tuple(variances), *_compute_shared(terms), notes)


def choose_seeds(
    arms: Sequence[Arm], *, is_difference: bool = True
) -> tuple[np.ndarray | None, Notes]:
    """Return the seeds by which arms are paired, or None for unpaired, and a note on it.

    Arms are paired if they have `LEAST_PAIRS` common seeds or more, and these are two thirds of
    every arm's. Else all runs are used, and the arms' variances added (Welch 1947): pairing halves
    the degrees of freedom, which costs more than the seeds' correlation saves where there are few.
    The rule looks at no score. Two common seeds are enough for what is no difference: a mean of
    cells varies more where their seeds correlate.
    """
    common = reduce(np.intersect1d, [arm.seeds for arm in arms])
    counts = tuple(dict.fromkeys(len(arm.seeds) for arm in arms))
    is_same = counts == (len(common),)
    is_alone = is_same and (len(arms) == 1 or len(common) == 1)
    least = LEAST_PAIRS if is_difference else 2
    if is_alone or (len(common) >= least and 3 * len(common) >= 2 * max(counts)):
        return common, () if is_same else (Note(NoteKind.COMMON_SEEDS, (len(common), *counts)),)
    kind = NoteKind.FEW_SEEDS if is_same else NoteKind.UNPAIRED_SEEDS
    return None, (Note(kind, (*counts, LEAST_PAIRS) if is_same else counts),)


def pair_arms(a: Arm, b: Arm) -> tuple[Arm, Arm]:
    """Return two arms with the runs that their difference is of."""
    seeds, _ = choose_seeds([a, b])
    return (a, b) if seeds is None else (pick_seeds(a, seeds), pick_seeds(b, seeds))


def pick_seeds(arm: Arm, seeds: np.ndarray) -> Arm:
    """Return the arm with some of its runs, in the order of the seeds."""
    order = np.argsort(arm.seeds)
    rows = order[np.searchsorted(arm.seeds[order], seeds)]
    names = ("seeds", "scores", "fold_scores", "replicates", "influence", "contributions")
    arrays = {name: getattr(arm, name) for name in names}
    return replace(arm, **{n: each[rows] for n, each in arrays.items() if each is not None})


def _compute_variance(scores: np.ndarray, spread: float = 1.0) -> tuple[float, int]:
    """Return the variance of one run (or pair), times `spread`, and how many there are."""
    n = len(scores)
    return float(np.var(scores, ddof=1)) * spread if n > 1 else float("nan"), n


def _compute_fold_variance(terms: list[Term]) -> tuple[float, float]:
    """Return the variance of a contrast that the data give it, and its degrees of freedom.

    Folds share training images, and repeats share all images: the variance of the mean of F folds
    is s^2 (1 / F + ratio), with F - 1 degrees of freedom (Nadeau and Bengio 2003, eq. 18, for
    repeated folds Bouckaert and Frank 2004), where s^2 is the variance of means over seeds. The
    runs of a lone seed can only be chosen by fold, so that their `spread` counts here.
    """
    means = [c * arm.fold_scores.mean(axis=0) for c, arm in terms if arm.fold_scores is not None]
    variance, n_folds = _compute_variance(np.sum(means, axis=0))
    ratio = float(np.mean([arm.fold_ratio for _, arm in terms]))
    spread = max((arm.spread for _, arm in terms if len(arm.seeds) == 1), default=1.0)
    return variance * (1 / n_folds + ratio) * spread, n_folds - 1.0


def _compute_shared(terms: list[Term]) -> tuple[float, float]:
    """Return T, from the replicates, and its degrees of freedom, from the influence.

    T is a difference of mean squares in each stratum: as in a two-way layout of seeds and n
    groups, it is the variance of the contrast of means, on n - 1 degrees of freedom, less the
    part of it that is the seeds' own, on (n - 1) (S - 1). What the groups of a stratum lack to
    `Arm.floor` is added: it is no estimate, and takes no degrees of freedom.
    """
    weights = _pair_weights(terms)
    samples = [arm.replicates for _, arm in terms if arm.replicates is not None]
    replicates = np.concatenate(samples)
    replicates = replicates[:, np.isfinite(replicates).all(axis=0)]
    if replicates.shape[1] < 2:
        return float("nan"), float("nan")
    products = weights * np.cov(replicates)
    shared = float(products.sum())
    if shared <= ROUNDING * float(np.abs(products).sum()):
        shared = 0.0
    influence = np.concatenate([arm.influence for _, arm in terms if arm.influence is not None])
    means = np.concatenate([np.full(len(arm.seeds), c / len(arm.seeds)) for c, arm in terms])
    n_seeds = min(len(arm.seeds) for _, arm in terms)
    sample = terms[0][1].sample
    assert sample is not None
    floor = terms[0][1].floor
    scale = max(sum(c for c, _ in terms if c > 0), -sum(c for c, _ in terms if c < 0))
    total, squares, lacking = 0.0, 0.0, 0.0
    for stratum in np.unique(sample.strata):
        members = influence[:, sample.strata == stratum]
        n = members.shape[1]
        covariance = members @ members.T * (n / max(n - 1, 1))
        of_pairs, of_mean = float((weights * covariance).sum()), float(means @ covariance @ means)
        total += of_pairs
        of_seeds = (of_mean - of_pairs) ** 2 / max(n_seeds - 1, 1)  # 0 where networks are fixed
        squares += (of_mean**2 + of_seeds) / max(n - 1, 1)
        if floor is not None:
            lacking += max(scale**2 * float(floor[stratum]) - of_mean, 0.0)
    if not (shared > 0 and squares > 0):
        return shared + lacking, float("inf")
    return shared + lacking, (total * (1 + lacking / shared)) ** 2 / squares


def _pair_weights(terms: list[Term]) -> np.ndarray:
    """Return what each pair of runs counts in T, (R, R): c_a c_b / number of such pairs.

    Such pairs are of different seeds, or any two runs where the networks are fixed.
    """
    seeds = np.concatenate([arm.seeds for _, arm in terms])
    owner = np.repeat(np.arange(len(terms)), [len(arm.seeds) for _, arm in terms])
    is_fixed = all(arm.is_fixed for _, arm in terms)
    differ = ((seeds[:, None] != seeds[None]) | is_fixed).astype(float)
    weights = np.zeros_like(differ)
    for i, (c_i, _) in enumerate(terms):
        for j, (c_j, _) in enumerate(terms):
            block = np.ix_(owner == i, owner == j)
            weights[block] = c_i * c_j * differ[block] / differ[block].sum()
    return weights
