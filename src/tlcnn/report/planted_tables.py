"""The tables that `tlcnn agreement` prints: a planted study's oracle, and how measures agree."""

from collections.abc import Mapping, Sequence
from typing import Any

from tlcnn.report.measure_words import find_words
from tlcnn.report.numbers import NONE
from tlcnn.report.show import show_number, show_value
from tlcnn.report.table import Column, Entry, Table, fill_table
from tlcnn.study.agreement import (
    COST,
    LEAST_FAMILIES,
    LEAST_TAU,
    LEAST_WITHIN,
    MOST_FALSE,
    NUMBER,
    Interval,
    Score,
)
from tlcnn.study.planted import FACTORS, NETWORKS, TASKS, Family

PLANTS = {NETWORKS: "shared networks", TASKS: "shared tasks"}
Record = Mapping[Any, Any]


def make_agreement_table(
    scores: Sequence[Score], families: Sequence[Family], margin: float, *, all_rules: bool = True
) -> Table:
    """Return one row a plant, measure, variant and rule, and whether any reaches the bar.

    Args:
        all_rules: False for the rule alone whose depths are right most often, of each variant.
    """
    ranked = sorted((score for score in scores if score.depths), key=_rank)
    firsts = list({(s.plant, s.measure, s.variant): s for s in reversed(ranked)}.values())[::-1]
    sizes = sorted({size for score in scores for size in score.false})
    factors = [name for name in FACTORS if any(name in score.moved for score in scores)]

    def describe(row: Record) -> dict[Column, Entry]:
        score: Score = row["score"]
        return {
            Column("plant"): show_value(PLANTS[score.plant]),
            Column("measure"): show_value(name_measure(score)),
            Column("variant"): show_value(score.variant),
            Column("rule"): show_value(score.rule),
            Column("families", "number"): show_number(len(score.depths)),
            Column("τ with S*", "number"): _show_interval(score.tau_S),
            Column("τ with F*", "number"): _show_interval(score.tau_F),
            Column("within 1", "number", "|n^ − n*| ≤ 1"): _show_share(score.count_errors(-1, 1)),
            Column("exact", "number"): _show_share(score.count_errors(0, 0)),
            Column("too deep", "number", "n^ > n*"): _show_share(score.count_errors(1)),
            Column("too shallow", "number", "n^ < n*"): _show_share(1 - score.count_errors(0)),
            **{
                Column(f"false at {size}", hint="the same task, called specific"): _show_count(
                    score.false.get(size, (0, 0))
                )
                for size in sizes
            },
            **{
                Column(f"moved by {name}", "number"): show_number(
                    score.moved.get(name), lambda share: f"{share:.2f}"
                )
                for name in factors
            },
            Column("reaches the bar"): show_value(score.reaches_bar),
        }

    notes = []
    for plant, name in PLANTS.items():
        part = [family for family in families if family.plant == plant]
        if part:
            networks = sorted({family.model for family in part})
            n_seeds = sorted({len(family.trios) for family in part})
            n_certain = sum(family.is_certain(margin) for family in part)
            notes.append(
                f"{name}: {len(part)} families of {', '.join(networks)}, "
                f"{'–'.join(map(str, n_seeds[:: max(1, len(n_seeds) - 1)]))} seeds; margin "
                f"{margin:g} points. In {n_certain} of them n* is certain: S* is more than two "
                "standard errors from the margin."
            )
    notes += [
        f"The bar: at least {LEAST_FAMILIES} families, n^ within one unit of n* in "
        f"{LEAST_WITHIN:.0%} of them, τ with S* of {LEAST_TAU:g} or more with its interval above "
        f"0, and at most {MOST_FALSE:.0%} false verdicts of the same task.",
        "moved by: the change of the curve where only this factor of A's training changes, as a "
        "share of its change from m = 0 to the largest m.",
    ]
    measures = [score for score in scores if score.measure not in (COST[0], NUMBER[0])]
    if not any(score.reaches_bar for score in measures):
        notes.append("No measure reaches the bar: no verdict can be read from measures.")
    if not all_rules:
        notes.append("Of several rules, the row has the one whose depths are right most often.")
    rows = [{"score": score} for score in (ranked if all_rules else sorted(firsts, key=_rank))]
    return fill_table(rows, describe, title="Agreement with the planted truth", notes=tuple(notes))


def name_measure(score: Score) -> str:
    """Return the title of a measure, of the costs, or of the control."""
    titles = {COST[0]: "freezing cost", NUMBER[0]: "control: the unit's number alone"}
    return titles.get(score.measure) or find_words(score.measure).title


def make_oracle_table(families: Sequence[Family], margin: float) -> Table:
    """Return one row a family: S*(n) in points with its standard error, and n*."""
    n_most = max(family.n_units for family in families)

    def describe(row: Record) -> dict[Column, Entry]:
        family: Family = row["family"]
        gaps = {
            Column(f"S*({n})", "number"): show_estimate(family.specificity.get(n))
            for n in range(1, n_most + 1)
        }
        costs = {
            Column(f"F*({n})", "number", aside=True): show_estimate(family.cost.get(n))
            for n in range(1, n_most + 1)
        }
        is_certain = family.is_certain(margin)
        return {
            Column("plant"): show_value(PLANTS[family.plant]),
            Column("network"): show_value(family.model),
            Column("m", "number"): show_number(family.m),
            Column("A"): show_value(describe_source(family)),
            **gaps,
            Column("n*", "number"): show_number(family.find_depth(margin)),
            Column("certain"): show_value(is_certain),
            **costs,
        }

    rows = [{"family": family} for family in families]
    return fill_table(rows, describe, title="The oracle", nouns=("family", "families"))


def describe_source(family: Family) -> str:
    """Return how A was trained, where that differs from most families."""
    differences = ["same task"] if family.is_same_task else []
    differences += [f"{name} {value:g}" for name, value in family.changed.items()]
    return ", ".join(differences) or "plain"


def make_depth_table(scores: Sequence[Score]) -> Table:
    """Return one row a family, measure, variant and rule: the depth n^ beside n*."""
    rows = [
        {"family": name, "score": score, "n^": depth, "n*": truth}
        for score in scores
        for name, (depth, truth) in score.depths.items()
    ]

    def describe(row: Record) -> dict[Column, Entry]:
        score: Score = row["score"]
        keys = {"planted family": row["family"], "measure": score.measure}
        keys |= {"variant": score.variant, "rule": score.rule}
        return {
            **{Column(name): show_value(value) for name, value in keys.items()},
            **{Column(name, "number"): show_number(row[name]) for name in ("n^", "n*")},
        }

    return fill_table(rows, describe, title="Depths")


def show_estimate(estimate: Any) -> Entry:
    """Return the entry of a number of points with its standard error, which CSV has as `se`."""
    if estimate is None:
        return Entry(NONE)
    text = f"{estimate.value:.1f}" + (
        f" ± {estimate.se:.1f}" if estimate.se == estimate.se else ""
    )
    return Entry(text.replace("-", "−"), estimate.value, {"se": estimate.se})


def _rank(score: Score) -> tuple[str, float, float]:
    return (score.plant, -score.count_errors(-1, 1), -score.count_errors(0, 0))


def _show_interval(interval: Interval) -> Entry:
    parts = {"low": interval.low, "high": interval.high, "n": interval.n}
    if interval.value != interval.value:
        return Entry(NONE, None, parts)
    text = f"{interval.value:.2f}"
    if interval.low == interval.low:
        text += f" [{interval.low:.2f}, {interval.high:.2f}]"
    return Entry(text.replace("-", "−"), interval.value, parts)


def _show_share(share: float) -> Entry:
    return show_number(share, lambda value: f"{value:.0%}")


def _show_count(pair: tuple[int, int]) -> Entry:
    n, n_all = pair
    return Entry(f"{n}/{n_all}", n / n_all, {"n": n_all}) if n_all else Entry(NONE)
