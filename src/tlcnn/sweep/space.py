"""The space of a search: the settings of training that it varies, and their ranges.

A setting is written with Hydra's words: `choice(a,b)`, `range(1,5)`, `interval(0.1,1)`, and
`tag(log, interval(1e-5,1e-2))` for a range on a logarithmic scale. A value is text, as on the
command line, from here on to the run that has it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from tlcnn.config.compose import Composer
from tlcnn.config.schema import Config, iterate_fields, list_keys
from tlcnn.errors import ConfigError, did_you_mean
from tlcnn.storage import digest_of

GROUP = "train."  # the keys that can be searched begin so
_FIXED = {  # the keys that a search does not vary, and why
    "train.epochs": "the epochs are part of the budget, which is the same for all",
    "train.select": "it decides which trial is the best",
}

_END_SHARE = 0.05  # the share of an interval that counts as its end
_N_SPREAD = 8  # consecutive random points that are spread evenly over a range

Values = Mapping[str, str]  # key -> value


@dataclass(frozen=True)
class Condition:
    """A setting is searched only where another one has one of these values."""

    key: str
    values: tuple[Any, ...]
    text: str


@dataclass(frozen=True)
class Setting:
    """One setting of a space.

    Attributes:
        text: its range as written, such as `tag(log, interval(1e-5,1e-2))`.
        values: of a list; empty for an interval.
        is_ordered: whether the values of a list are numbers in their order.
        low, high: the ends of an interval.
        is_log: whether equal ratios, not equal differences, are equally likely.
        is_whole: whether only whole numbers are allowed.
        condition: None if it is always searched.
    """

    key: str
    text: str
    values: tuple[str, ...] = ()
    is_ordered: bool = False
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    is_whole: bool = False
    condition: Condition | None = None

    def draw(self, share: float) -> str:
        """Return the value at a share of the range, from 0 to 1.

        Example:
            >>> Setting("train.lr", "", low=1e-5, high=1e-1, is_log=True).draw(0.5)
            '0.001'
        """
        if self.values:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        if self.is_whole:
            return str(min(math.floor(self.low + share * (self.high + 1 - self.low)), self.high))
        if self.is_log:
            number = self.low * (self.high / self.low) ** share
        else:
            number = self.low + share * (self.high - self.low)
        return self.write(number)

    def is_at_end(self, value: str) -> bool:
        """Return whether a value is near an end of its range, beyond which may be better ones.

        That is the first or last of three or more numbers, or a twentieth of an interval.

        Example:
            >>> rate = Setting("train.lr", "", low=1e-5, high=1e-1, is_log=True)
            >>> rate.is_at_end("0.08"), rate.is_at_end("0.01")
            (True, False)
        """
        if self.values:
            ends = (self.values[0], self.values[-1])
            return self.is_ordered and len(self.values) > 2 and value in ends
        scale = math.log if self.is_log else float
        low, high, number = scale(self.low), scale(self.high), scale(float(value))
        share = (number - low) / (high - low)
        return not _END_SHARE < share < 1 - _END_SHARE

    def write(self, number: float) -> str:
        """Return a number of the interval as text: three digits, which is what a rate needs."""
        if self.is_whole:
            return str(int(number))
        return repr(min(max(float(f"{number:.3g}"), self.low), self.high))


Space = tuple[Setting, ...]
IsActive = Callable[[Setting, Values], bool]


def is_searched(override: Any) -> bool:
    """Return whether a word of the command line is a range of a setting of training."""
    key = override.get_key_element().lstrip("+~")
    is_list = override.is_choice_sweep() and override.value().simple_form  # as in `train.lr=1,2`
    return key.startswith(GROUP) and override.is_sweep_override() and not is_list


def parse_setting(override: Any, condition: Condition | None) -> Setting:
    """Return a setting of the space. Raises ConfigError for a range that cannot be searched."""
    from hydra.core.override_parser.types import IntervalSweep

    key, text = override.get_key_element().lstrip("+~"), override.input_line.split("=", 1)[1]
    if key in _FIXED:
        raise ConfigError(f"{key}={text} cannot be searched: {_FIXED[key]}. Give it one value")
    value: Any = override.value()
    tags = {str(tag) for tag in value.tags}
    if not isinstance(value, IntervalSweep):
        if tags:
            raise ConfigError(
                f"{key}={text}: only an interval can have a tag, such as tag(log, …)"
            )
        values = tuple(_shorten(text) for text in override.sweep_string_iterator())
        return Setting(key, text, values, override.is_range_sweep(), condition=condition)
    low, high = float(value.start or 0), float(value.end or 0)
    if tags - {"log"}:
        raise ConfigError(f"{key}={text}: the one tag of an interval is log")
    if not low < high or ("log" in tags and low <= 0):
        rule = "0 < LOW < HIGH" if "log" in tags else "LOW < HIGH"
        raise ConfigError(f"{key}={text}: interval(LOW,HIGH) needs {rule}")
    types = {name: str(item.type) for name, item in iterate_fields(Config)}
    is_whole = "int" in types.get(key, "") and "float" not in types.get(key, "")
    if is_whole and "log" in tags:
        raise ConfigError(f"{key}={text}: whole numbers have no log scale: use choice(1,2,4,8)")
    if is_whole:
        low, high = math.ceil(low), math.floor(high)
        if not low < high:
            raise ConfigError(
                f"{key}={text}: interval(LOW,HIGH) needs at least two whole numbers between LOW "
                "and HIGH, these included, as in interval(1,2)"
            )
    return Setting(
        key,
        text,
        low=low,
        high=high,
        is_log="log" in tags,
        is_whole=is_whole,
        condition=condition,
    )


def _shorten(text: str) -> str:
    """Return a number of a range without the noise of its last bits."""
    try:
        return text if float(text).is_integer() else repr(float(f"{float(text):.12g}"))
    except ValueError:
        return text


def parse_conditions(when: Mapping[str, Any], composer: Composer) -> dict[str, Condition]:
    """Return the condition of each key, such as `train.momentum: train.optimizer=sgd`.

    Raises ConfigError for a condition that is no KEY=VALUE of a known key.
    """
    conditions = {}
    for key, text in when.items():
        name = str(text).partition("=")[0]
        if "=" not in str(text) or name not in list_keys():
            raise ConfigError(
                f"the condition of {key} is {text}: write KEY=VALUE or KEY=VALUE,VALUE with a key "
                f"of a run.{did_you_mean(name, list_keys())}"
            )
        override = composer.parse(str(text))
        is_list = override.is_sweep_override()
        values = [*override.sweep_iterator()] if is_list else [override.value()]
        conditions[str(key)] = Condition(name, tuple(map(str, values)), str(text))
    return conditions


def order_space(settings: Sequence[Setting]) -> Space:
    """Return the settings so that each follows those that its condition depends on.

    Raises ConfigError where settings depend on each other in a circle.
    """
    waiting, ordered = [*settings], list[Setting]()
    while waiting:
        keys = {setting.key for setting in waiting}
        ready = [s for s in waiting if not s.condition or s.condition.key not in keys]
        if not ready:
            names = ", ".join(setting.key for setting in waiting)
            raise ConfigError(f"the conditions of {names} depend on each other")
        ordered += ready
        waiting = [setting for setting in waiting if setting not in ready]
    return tuple(ordered)


def make_is_active(overrides: Sequence[str], composer: Composer) -> IsActive:
    """Return a function that tells whether a setting is searched, given the values before it.

    Args:
        overrides: the words of the arm.
    """

    def is_active(setting: Setting, values: Values) -> bool:
        condition = setting.condition
        if condition is None:
            return True
        config = composer.compose([*overrides, *write_words(values)])
        return str(attrgetter(condition.key)(config)) in condition.values

    return is_active


def write_words(values: Values) -> list[str]:
    """Return values as words of the command line."""
    return [f"{'++' * k.startswith('train.unit_lr.')}{k}={v}" for k, v in values.items()]


def list_points(space: Space, is_active: IsActive) -> Iterator[dict[str, str]]:
    """Yield every combination of a space. Raises ConfigError for an interval."""
    intervals = [setting for setting in space if not setting.values]
    if intervals:
        first = intervals[0]
        raise ConfigError(
            f"{first.key}={first.text} has no list of values, which a grid needs: write "
            "choice(…) or range(…), or use the method random"
        )

    def extend(values: dict[str, str], rest: Space) -> Iterator[dict[str, str]]:
        if not rest:
            yield values
        elif not is_active(rest[0], values):
            yield from extend(values, rest[1:])
        else:
            for value in rest[0].values:
                yield from extend({**values, rest[0].key: value}, rest[1:])

    yield from extend({}, space)


def draw_point(space: Space, is_active: IsActive, *, seed: int, number: int) -> dict[str, str]:
    """Return one random combination: a function of seed, number and the names of settings.

    So arms that vary the same setting try the same values of it. Eight consecutive numbers are
    a Latin hypercube: one value lies in each eighth of a range (McKay et al. 1979).
    """
    values: dict[str, str] = {}
    block, place = divmod(number, _N_SPREAD)
    for setting in space:
        if is_active(setting, values):
            key = setting.key
            order = sorted(range(_N_SPREAD), key=lambda i: digest_of([seed, key, block, i], 13))
            within = int(digest_of([seed, key, number], 13), 16) / 16**13
            values[key] = setting.draw((order[place] + within) / _N_SPREAD)
    return values
