"""Searches of settings in a report: a table of their arms, and sentences for its methods."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from tlcnn.records.search import ArmRecord, SearchedArm, SearchRecord
from tlcnn.report.content import Content
from tlcnn.report.numbers import is_number
from tlcnn.report.show import show_number, show_score, show_value
from tlcnn.report.table import Column, Entry, Table, fill_table
from tlcnn.report.words import join_words, name_metric, write_settings
from tlcnn.statistics.metrics import METRICS
from tlcnn.sweep.propose import N_RANDOM
from tlcnn.text import count

_METHODS = {
    "random": "drawn at random, evenly spread",
    "grid": "all points of a grid",
    "tpe": "proposed by a tree-structured Parzen estimator (Bergstra et al. 2011; Optuna, Akiba "
    "et al. 2019)",
    "gp": "proposed by a Gaussian process (Optuna, Akiba et al. 2019)",
}
_PRUNERS = {
    "median": "Trials whose score was below the median of earlier trials after a ninth or a third "
    "of the epochs were given up (Golovin et al. 2017)",
    "halving": "Trials that were not among the best third after a ninth and after a third of the "
    "epochs were given up (successive halving, Jamieson and Talwalkar 2016)",
}
CAPTION = (
    "An arm is a cell whose settings of training were searched. Its trials were judged on "
    "validation alone. The chosen settings were then trained again with other seeds, and these "
    "runs alone stand for the arm in all other tables. The best score on validation is partly "
    "luck, and more so where there were more trials."
)


def list_searches(runs: pd.DataFrame) -> tuple[SearchRecord, ...]:
    """Return the searches that finished runs are final runs of, each once."""
    searched = runs.get("searched", ())
    arms = [arm for row in searched for arm in row if isinstance(arm, SearchedArm)]
    return tuple({arm.search.study: arm.search for arm in arms}.values())


def make_search_table(content: Content) -> Table:
    """Return one row an arm: its trials by their end, and what validation chose."""
    rows = [
        {"search": search, "arm": arm}
        for search in list_searches(content.runs)
        for arm in search.arms
    ]
    return fill_table(rows, _describe_arm, key="searches", title="Search", nouns=("arm", "arms"))


def _describe_arm(row: Mapping[Any, Any]) -> dict[Column, Entry]:
    search, arm = row["search"], row["arm"]
    ends, chosen = Counter(trial.state for trial in arm.trials), arm.chosen
    metric, score = f"val/{arm.metric}", chosen.score if chosen else None
    if score is not None and METRICS[arm.metric].lower_is_better:
        score = -score
    n_epochs = [trial.n_epochs for trial in arm.trials if trial.n_epochs is not None]
    return {
        Column("arm"): show_value(arm.name),
        Column("trials", "count"): show_number(len(arm.trials)),
        Column("given up", "count", "after few epochs"): show_number(ends["pruned"]),
        Column("diverged", "count"): show_number(ends["diverged"]),
        Column("epochs", "count", "of all trials"): show_number(sum(n_epochs)),
        Column(f"best {name_metric(metric)} on validation", "number"): show_score(score, metric),
        Column("chosen"): show_value(
            write_settings(tuple(chosen.values.items())) if chosen else None
        ),
        Column("tried"): show_value(_write_tried(arm)),
        Column("search", aside=True): show_value(search.study),
    }


def describe_searches(content: Content) -> Iterator[str]:
    """Yield what was searched, with which budget, and what was chosen, as sentences."""
    for search in list_searches(content.runs):
        arms = [arm for arm in search.arms if arm.space]
        if not arms:
            continue
        metrics = join_words([*{f"{name_metric(f'val/{arm.metric}')}": None for arm in arms}])
        yield (
            f"Settings of training were searched ({search.study}): "
            f"{_count_trials(arms)} for each of {count(len(arms), 'arm')}, "
            f"{_write_method(search)}, all with seed {search.tuning_seed} "
            f"and judged by the {metrics} of their best epoch on validation."
        )
        spaces: dict[tuple[str, ...], list[str]] = {}
        for arm in arms:
            spaces.setdefault(arm.space, []).append(arm.name)
        for space, names in spaces.items():
            whose = f" for {join_words(names)}" if len(spaces) > 1 else ""
            yield f"Searched{whose}: {'; '.join(map(write_range, space))}."
        states = Counter(trial.state for arm in arms for trial in arm.trials)
        if search.prune in _PRUNERS:
            yield f"{_PRUNERS[search.prune]}: {states['pruned']:,} of {sum(states.values()):,}."
        if states["diverged"]:
            yield f"The loss of {count(states['diverged'], 'trial')} was not finite."
        chosen = [
            f"{arm.name}: {write_settings(tuple(arm.chosen.values.items()))} (tried: "
            f"{_write_tried(arm)})"
            for arm in arms
            if arm.chosen
        ]
        seeds = join_words([str(seed) for seed in search.final_seeds])
        yield (
            f"The best settings of each arm were trained again with seeds {seeds}, and these runs "
            f"alone are compared. Chosen were {'; '.join(chosen)}."
        )
        ends = [f"{key} of {arm.name}" for arm in arms for key in arm.at_end]
        if ends:
            yield (
                f"The chosen value of {join_words(ends)} lies at an end of its range, so a wider "
                "range may have better ones."
            )


def _write_method(search: SearchRecord) -> str:
    """Return how trials were proposed; samplers learn from whole batches of random ones."""
    text = _METHODS.get(search.method, search.method)
    if search.method not in ("tpe", "gp"):
        return text
    n_random = math.ceil(N_RANDOM / search.batch) * search.batch
    return (
        f"{text} after {n_random} random ones" if n_random < search.budget else _METHODS["random"]
    )


def _count_trials(arms: list[ArmRecord]) -> str:
    sizes = sorted({len(arm.trials) for arm in arms})
    return count(sizes[0], "trial") if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} trials"


def write_range(word: str) -> str:
    """Return a searched setting and its range in words.

    Example:
        >>> write_range("train.lr=tag(log, interval(1e-5,1e-2))")
        'train.lr from 1e-5 to 1e-2 (on a logarithmic scale)'
        >>> write_range("train.mixup=choice(0,0.2) where train.loss=focal")
        'train.mixup of 0 or 0.2, where train.loss=focal'
    """
    text, _, condition = word.partition(" where ")
    key, _, value = text.partition("=")
    where = f", where {condition}" if condition else ""
    if interval := re.search(r"interval\(\s*([^,]+?)\s*,\s*([^,]+?)\s*\)", value):
        scale = " (on a logarithmic scale)" if "log" in value else ""
        return f"{key} from {interval[1]} to {interval[2]}{scale}{where}"
    if choice := re.fullmatch(r"choice\((.*)\)", value):
        names = [name.strip() for name in choice[1].split(",")]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
        return f"{key} of {listed}{where}"
    return f"{key} in {value}{where}"


def _write_tried(arm: ArmRecord) -> str:
    """Return the values that trials had of each setting: all of a few, else the ends."""
    texts = []
    for key in arm.keys:
        values = list(dict.fromkeys(t.values[key] for t in arm.trials if key in t.values))
        numbers = sorted((_parse_number(value), str(value)) for value in values)
        if len(values) <= 5 or not all(is_number(number) for number, _ in numbers):
            texts.append(f"{key} {', '.join(text for _, text in numbers)}")
        else:
            texts.append(f"{len(values)} values of {key} from {numbers[0][1]} to {numbers[-1][1]}")
    return "; ".join(texts)


def _parse_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
