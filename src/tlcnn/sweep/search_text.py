"""A search in words: the table of its arms, and a line for every trial that ends."""

from collections.abc import Iterator, Mapping

from tlcnn.records.search import ArmRecord, SearchRecord, Trial
from tlcnn.statistics.metrics import METRICS
from tlcnn.text import align_columns, count, make_visible


def describe_search(search: SearchRecord) -> list[str]:
    """Return a table of the arms: trials by their end, and what validation chose."""
    rows: list[tuple[str, ...]] = [
        ("arm", "trials", "done", "pruned", "diverged", "best on validation", "chosen")
    ]
    for arm in search.arms:
        states = [trial.state for trial in arm.trials]
        numbers = [str(states.count(state)) for state in ("done", "pruned", "diverged")]
        chosen = arm.chosen
        best = write_score(arm, chosen) if chosen else "not chosen yet"
        values = write_values(chosen) if chosen else ""
        rows.append((make_visible(arm.name), str(len(states)), *numbers, best, values))
    seeds = ", ".join(map(str, search.final_seeds))
    lines = [
        f"search of {search.study}: {count(search.budget, 'trial')} an arm, final seeds {seeds}"
    ]
    lines += [f"  {line}" for line in align_columns(rows, right=(1, 2, 3, 4))]
    return lines + [
        f"  {make_visible(arm.name)}: the chosen {key} is at an end of its range, and a wider "
        "range may be better"
        for arm in search.arms
        for key in arm.at_end
    ]


def describe_end(before: Mapping[tuple[str, int], Trial], search: SearchRecord) -> Iterator[str]:
    """Yield a line for each trial that has ended since."""
    for arm in search.arms:
        for trial in arm.trials:
            earlier = before.get((arm.key, trial.number))
            if trial.state != "open" and (earlier is None or earlier.state == "open"):
                where = f" after epoch {trial.n_epochs}" if trial.state == "pruned" else ""
                score = f", {write_score(arm, trial)}" if trial.score is not None else ""
                yield (
                    f"{make_visible(arm.name)}, trial {trial.number} ({write_values(trial)}): "
                    f"{trial.state}{where}{score}"
                )


def write_score(arm: ArmRecord, trial: Trial) -> str:
    """Return a trial's score with its metric, as the metric is defined."""
    if trial.score is None:
        return "no score"
    sign = -1 if METRICS[arm.metric].lower_is_better else 1
    return f"{arm.metric} {sign * trial.score:.4f}"


def write_values(trial: Trial) -> str:
    """Return the searched settings of a trial as words."""
    return " ".join(f"{key}={value}" for key, value in trial.values.items()) or "as given"
