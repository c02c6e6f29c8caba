"""Which settings the next trials of an arm have: a grid, random points, or Optuna's samplers.

Trials are proposed in batches. A batch is a pure function of the space, the seed and the results
of the batches before it: it depends on no clock, process or machine.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tlcnn.errors import ConfigError
from tlcnn.records.search import Trial
from tlcnn.storage import digest_of
from tlcnn.sweep.space import IsActive, Setting, Space, draw_point, list_points

if TYPE_CHECKING:
    import optuna

N_RANDOM = 8  # of the first trials of a sampler that learns from trials
# How many points are looked at for each trial of a batch, as those of earlier trials are dropped.
_N_RANDOM_POINTS = 64
_N_LEARNED_POINTS = 4


def propose(
    space: Space,
    method: str,
    history: Sequence[Trial],
    *,
    seed: int,
    n: int,
    is_active: IsActive,
    find_run_id: Callable[[Mapping[str, str]], str],
) -> list[dict[str, str]]:
    """Return the values of the n trials that follow those of the history.

    No two trials of a random or learned search are the same run, whose id has no setting without
    an effect (such as `train.momentum` with AdamW). There are fewer than n where the space has no
    other runs.

    Args:
        history: the ended trials of all earlier batches.
        find_run_id: returns the id of the run with some values.

    Raises:
        ConfigError: a method that the space does not allow, or Optuna is missing.
    """
    first = len(history)
    if method == "grid":
        return list(islice(list_points(space, is_active), first, first + n))
    tried = [dict(trial.values) for trial in history]
    points = _list_random(space, is_active, seed=seed, first=first)
    if method != "random" and first >= N_RANDOM:
        learned = _list_learned(space, is_active, method, history, seed=seed, first=first)
        points = chain(islice(learned, n * _N_LEARNED_POINTS), points)
    run_ids = {trial.run_id for trial in history}
    chosen: list[dict[str, str]] = []
    for point in islice(points, n * _N_RANDOM_POINTS):
        if point in tried:
            continue
        tried.append(point)
        if (run_id := find_run_id(point)) not in run_ids:
            run_ids.add(run_id)
            chosen.append(point)
        if len(chosen) == n:
            break
    return chosen


def _list_random(
    space: Space, is_active: IsActive, *, seed: int, first: int
) -> Iterator[dict[str, str]]:
    """Yield random points, for each number the first try, then the second, and so on."""
    attempt = 0
    while True:
        yield draw_point(space, is_active, seed=seed, number=first + attempt)
        attempt += 1


def _list_learned(
    space: Space,
    is_active: IsActive,
    method: str,
    history: Sequence[Trial],
    *,
    seed: int,
    first: int,
) -> Iterator[dict[str, str]]:
    """Yield points that Optuna proposes after these trials."""
    with _quiet_optuna() as optuna:
        start = int(digest_of([seed, first], 8), 16)
        kinds: dict[str, Callable[[], Any]] = {
            "tpe": lambda: optuna.samplers.TPESampler(
                seed=start, n_startup_trials=0, constant_liar=True
            ),
            "gp": lambda: optuna.samplers.GPSampler(seed=start, n_startup_trials=0),
        }
        study = optuna.create_study(direction="maximize", sampler=kinds[method]())
        for trial in history:
            study.add_trial(_make_optuna_trial(optuna, space, trial))
    while True:
        with _quiet_optuna():
            trial = study.ask()
            values: dict[str, str] = {}
            for setting in space:
                if is_active(setting, values):
                    values[setting.key] = _suggest(trial, setting)
        yield values


@contextmanager
def _quiet_optuna() -> "Iterator[Any]":
    """Import Optuna, which then logs no trial. Raises ConfigError where it is missing."""
    import warnings

    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "the methods tpe and gp need Optuna: pip install 'tlcnn[tune]'. The methods random "
            "and grid need nothing"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield optuna


def _make_optuna_trial(optuna: Any, space: Space, trial: Trial) -> Any:
    """Return a trial of ours as one of Optuna's; one that diverged is the worst of all."""
    settings = [setting for setting in space if setting.key in trial.values]
    is_done = trial.state == "done" and trial.score is not None
    steps = {}
    if trial.state == "pruned" and trial.n_epochs is not None and trial.score is not None:
        steps = {trial.n_epochs: trial.score}
    state = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=state.COMPLETE if is_done else state.PRUNED,
        params={s.key: _locate(s, trial.values[s.key]) for s in settings},
        distributions={s.key: _make_distribution(optuna, s) for s in settings},
        value=trial.score if is_done else None,
        intermediate_values=steps,
    )


def _make_distribution(optuna: Any, setting: Setting) -> "optuna.distributions.BaseDistribution":
    make = optuna.distributions
    if setting.values and setting.is_ordered:
        return make.IntDistribution(0, len(setting.values) - 1)
    if setting.values:
        return make.CategoricalDistribution(range(len(setting.values)))
    if setting.is_whole:
        return make.IntDistribution(int(setting.low), int(setting.high))
    return make.FloatDistribution(setting.low, setting.high, log=setting.is_log)


def _locate(setting: Setting, value: str) -> float:
    """Return a value as Optuna sees it: the number, or the place in a list."""
    if setting.values:
        return setting.values.index(value)
    return int(value) if setting.is_whole else float(value)


def _suggest(trial: "optuna.trial.Trial", setting: Setting) -> str:
    key, n = setting.key, len(setting.values)
    if setting.values and setting.is_ordered:
        return setting.values[trial.suggest_int(key, 0, n - 1)]
    if setting.values:
        return setting.values[trial.suggest_categorical(key, range(n))]
    if setting.is_whole:
        return str(trial.suggest_int(key, int(setting.low), int(setting.high)))
    return setting.write(trial.suggest_float(key, setting.low, setting.high, log=setting.is_log))
