"""The arms of a search: cells whose settings of training are searched, each in its own space.

Words with lists of values (`init=imagenet,random`, `train.schedule=together,gradual`) make arms;
ranges of settings of training (`choice(…)`, `range(…)`, `interval(…)`) make the space.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from tlcnn.config.compose import Composer
from tlcnn.config.schema import list_keys, list_local_keys
from tlcnn.config.spelling import write_override
from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.plan.plan import Plan
from tlcnn.run.job import Job, Outcome
from tlcnn.storage import digest_of
from tlcnn.sweep.blocks import expand, expand_each
from tlcnn.sweep.resolve import LeftOut, find_shared_words, resolve
from tlcnn.sweep.space import (
    IsActive,
    Space,
    is_searched,
    make_is_active,
    order_space,
    parse_conditions,
    parse_setting,
    write_words,
)

_PLACES = frozenset(list_local_keys())
# Settings of training that a source run does not have.
_NOT_IN_SOURCE = ("train.schedule", "train.unit_lr")


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        key: a digest of its cell, with the settings that its words give, and of its space.
        overrides: the words of all its runs, without the seed.
        label: the overrides without places, which do not change a result.
        plan: that of its run with the seed of the trials and no searched setting.
        is_active: whether a setting is searched, given the values before it.
    """

    key: str
    overrides: tuple[str, ...]
    label: tuple[str, ...]
    space: Space
    plan: Plan
    is_active: IsActive

    @property
    def texts(self) -> list[str]:
        """The searched settings with their ranges and conditions, as words."""
        return [
            f"{s.key}={s.text}" + (f" where {s.condition.text}" if s.condition else "")
            for s in self.space
        ]

    def make_job(self, values: Mapping[str, str], seed: int) -> Job:
        """Return the training of one combination of the searched settings."""
        return Job((*self.overrides, *write_words(values), f"seed={seed}"))


@dataclass(frozen=True)
class Arms:
    """The arms that a command means.

    Attributes:
        seed: the seed of all trials.
        n_same: the number of combinations whose arm is the same as an earlier one.
        left_out, broken: see `Sweep`.
    """

    arms: tuple[Arm, ...]
    seed: int
    n_same: int = 0
    left_out: tuple[LeftOut, ...] = ()
    broken: tuple[tuple[tuple[str, ...], Outcome], ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """A name for each arm, by key: the words that tell it from the others."""
        shared = find_shared_words([arm.label for arm in self.arms]) if self.arms else set()
        names = {
            arm.key: " ".join(word for word in arm.label if word not in shared)
            or f"{'-'.join(arm.plan.source)} k{arm.plan.treatment.k} j{arm.plan.treatment.j}"
            for arm in self.arms
        }
        for arm in self.arms:  # arms of one cell differ in their spaces
            if [*names.values()].count(names[arm.key]) > 1:
                names[arm.key] += f" ({'; '.join(arm.texts) or 'nothing searched'})"
        return names


def make_arms(
    arguments: Sequence[str],
    *,
    params: Mapping[str, Any],
    blocks: Sequence[Mapping[str, Any]],
    when: Mapping[str, Any],
    composer: Composer,
    memory: Memory,
) -> Arms:
    """Return the arms of a search, each once.

    Args:
        when: the condition of a searched key, such as `train.momentum: train.optimizer=sgd`.

    Raises:
        ConfigError: a value, range or condition that is not allowed, or several seeds.
    """
    cells = expand(
        arguments, params=params, blocks=blocks, parse=composer.parse, is_range=is_searched
    )
    conditions = parse_conditions(when, composer)
    pairs, seeds, unused = [], set(), set(conditions)
    for cell in cells:
        parsed = [composer.parse(word) for word in cell]
        settings = [
            parse_setting(o, conditions.get(o.get_key_element().lstrip("+~")))
            for o in parsed
            if is_searched(o)
        ]
        unused -= {setting.key for setting in settings}
        overrides = [o.input_line for o in parsed if not is_searched(o)]
        seeds |= {composer.compose(overrides).seed}
        overrides = [word for word in overrides if word.partition("=")[0] != "seed"]
        space = order_space(settings)
        pairs += [(cell_overrides, space) for cell_overrides in expand_each([overrides], composer)]
    if len(seeds) > 1:
        raise ConfigError(
            f"seed={','.join(map(str, sorted(seeds)))}: all trials of a search have one seed; "
            "--final-seeds says how many seeds the chosen settings are trained with"
        )
    if unused:
        key = min(unused)
        raise ConfigError(f"{key} has a condition ({when[key]}), but it is not searched")
    (seed,) = seeds
    return _plan_arms(pairs, seed, composer, memory)


def _plan_arms(
    pairs: Sequence[tuple[tuple[str, ...], Space]], seed: int, composer: Composer, memory: Memory
) -> Arms:
    arms: dict[str, Arm] = {}
    left_out, broken = list[LeftOut](), list[tuple[tuple[str, ...], Outcome]]()
    n_same = 0
    for cell_overrides, space in pairs:
        overrides = (*cell_overrides, *_pin_source(cell_overrides, space, composer))
        sweep = resolve([Job((*overrides, f"seed={seed}"))], composer, memory)
        left_out += sweep.left_out
        broken += sweep.broken
        label = tuple(w for w in overrides if w.lstrip("+").partition("=")[0] not in _PLACES)
        is_active = make_is_active(overrides, composer)
        for plan in (run.plan for run in sweep.runs if run.role == "cell"):
            arm = Arm("", overrides, label, space, plan, is_active)
            key = digest_of([plan.cell_id, sorted(arm.texts)], 8)
            n_same += key in arms
            arms.setdefault(key, replace(arm, key=key))
    return Arms(tuple(arms.values()), seed, n_same, tuple(left_out), tuple(broken))


def _pin_source(overrides: Sequence[str], space: Space, composer: Composer) -> list[str]:
    """Return words with which a source run of `init=task` keeps its recipe in all trials."""
    cfg = composer.compose(overrides)
    if cfg.init.source != "task":
        return []
    pinned = cfg.init.task_run.get("train", {})
    keys = [setting.key for setting in space if setting.key in list_keys()]
    return [
        "++" + write_override(f"init.task_run.{key}", attrgetter(key)(cfg))
        for key in keys
        if key not in _NOT_IN_SOURCE and key.removeprefix("train.") not in pinned
    ]
