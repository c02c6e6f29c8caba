"""What happens to each unit: whether the source's weights go into it, and whether it is frozen.

init.through, init.units, init.above, freeze.through, freeze.units -> Treatment, UnitMap
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlcnn.config.schema import EACH_UNIT, TRANSFERRED, Config
from tlcnn.errors import ConfigError, DroppedUnits, ImpossibleCell
from tlcnn.model.unit_map import UnitMap, count_leading, list_numbers
from tlcnn.model.weights import WeightsFile
from tlcnn.text import count

_LONGEST = 20  # characters of unit numbers in a run's name


@dataclass(frozen=True)
class Treatment:
    """Which units come from the source, and which stay a fixed function.

    Attributes:
        transferred: the numbers of the units that come from the source; 1..k unless `init.units`
            says otherwise.
        frozen: the numbers of the units that stay a fixed function; 1..j unless `freeze.units`
            says otherwise.
        source: random, imagenet, checkpoint, stats or run (another run, however it was named).
        weights: what transferred units are read from; of a run that is not trained yet, where they
            will be.
        above: what the units above the last transferred one are; `fresh` where there are none.
        has_head: whether the head comes from the source as well.
    """

    transferred: tuple[int, ...]
    frozen: tuple[int, ...]
    source: str = "random"
    weights: WeightsFile | None = None
    above: str = "fresh"
    has_head: bool = False

    @property
    def k(self) -> int:
        """The number of transferred units."""
        return len(self.transferred)

    @property
    def j(self) -> int:
        """The number of frozen units."""
        return len(self.frozen)

    @property
    def depth(self) -> int:
        """The number of frozen units in front of the first trained one."""
        return count_leading(self.frozen)

    @property
    def has_fresh_depth(self) -> bool:
        """Whether one of these units does not come from the source."""
        return self.depth > count_leading(self.transferred)


def make_treatment(cfg: Config, unit_map: UnitMap) -> tuple[Treatment, UnitMap]:
    """Return what a configuration does to the units of a network, and the units that it has.

    The network has fewer units where `init.above=truncate` drops some.

    Raises:
        ConfigError: a name that no unit has, or a network that cannot be truncated there.
        ImpossibleCell: fresh units would be frozen, and `freeze.allow_random` is false.
        DroppedUnits: units would be frozen that are dropped.
    """
    init = cfg.init
    for key, word in list_selections(cfg).items():
        if f"{key}={word}" in EACH_UNIT:
            raise ConfigError(
                f"{key}={word} stands for every unit, one run each: use it in a sweep (-m)."
            )
    transferred = _select(unit_map, init.through, init.units)
    if init.source == "random":
        transferred = ()
    last = max(transferred, default=0)
    above = init.above if 0 < last < len(unit_map) else "fresh"
    if above == "stats" and init.source == "stats":
        transferred, above = (*transferred, *range(last + 1, len(unit_map) + 1)), "fresh"
    whole = unit_map
    if above == "truncate":
        unit_map = _truncate(unit_map, last)
    frozen = transferred
    if cfg.freeze.units is not None or cfg.freeze.through != TRANSFERRED:
        frozen = _select_frozen(cfg, unit_map, whole)
    treatment = Treatment(transferred, frozen, above=above, has_head=init.head and last > 0)
    if not cfg.freeze.allow_random and not set(frozen) <= set(transferred):
        raise ImpossibleCell(_describe_random(cfg, treatment, unit_map))
    return treatment, unit_map


def list_selections(cfg: Config) -> dict[str, Any]:
    """Return the keys of a configuration that name units, with their values."""
    groups = {"init": cfg.init, "freeze": cfg.freeze}
    return {
        f"{group}.{name}": getattr(node, name)
        for group, node in groups.items()
        for name in ("through", "units")
    }


def _select(unit_map: UnitMap, through: Any, units: Any) -> tuple[int, ...]:
    return list_numbers(unit_map.count(through)) if units is None else unit_map.select(units)


def _select_frozen(cfg: Config, unit_map: UnitMap, whole: UnitMap) -> tuple[int, ...]:
    selection = (cfg.freeze.through, cfg.freeze.units)
    try:
        return _select(unit_map, *selection)
    except ConfigError:
        numbers = _select(whole, *selection)  # raises the error of a name that no unit has
    dropped = [whole.names[n - 1] for n in numbers if n > len(unit_map)]
    raise DroppedUnits(
        f"{_write_frozen(cfg)} freezes {', '.join(dropped)}, which init.above=truncate drops. "
        f"Freeze up to {unit_map.names[-1]}, or use init.above=fresh."
    )


def _truncate(unit_map: UnitMap, last: int) -> UnitMap:
    unit = unit_map.units[last - 1]
    if unit.cut_obstacle is not None:
        raise ConfigError(
            f"init.above=truncate: {unit_map.model} cannot be cut behind {unit.name}: "
            f"{unit.cut_obstacle}. Transfer through another unit, or use init.above=fresh."
        )
    return unit_map.truncate(last)


def _write_frozen(cfg: Config) -> str:
    key = "through" if cfg.freeze.units is None else "units"
    return f"freeze.{key}={_write_selection(getattr(cfg.freeze, key))}"


def _write_selection(word: Any) -> str:
    return f"[{','.join(map(str, word))}]" if isinstance(word, list) else str(word)


def _describe_random(cfg: Config, cell: Treatment, unit_map: UnitMap) -> str:
    """Return why fresh units would be frozen, and what to do instead."""
    source = "imagenet" if cfg.init.source == "random" else cfg.init.source
    names = unit_map.names
    fresh = [names[n - 1] for n in cell.frozen if n not in cell.transferred]
    if is_prefix(cell.transferred) and is_prefix(cell.frozen):
        transfer = f"init.through={names[cell.j - 1]}"
        freeze = f"freeze.through={names[cell.k - 1] if cell.k else 'none'}"
    else:
        transfer = "init.through=all"
        freeze = "freeze.through=transferred"
    return (
        f"{_write_frozen(cfg)} freezes {count(cell.j, 'unit')} but init={cfg.init.source} "
        f"transfers {cell.k}: {', '.join(fresh)} would stay random filters.\n"
        f"Transfer them (init={source} {transfer}), freeze less ({freeze}), or, as a control, "
        "set freeze.allow_random=true."
    )


def is_prefix(numbers: Sequence[int]) -> bool:
    """Return whether units are the first ones, without a gap."""
    return count_leading(numbers) == len(numbers)


def name_units(numbers: Sequence[int]) -> str:
    """Return units for the name of a run: their count, or their numbers where they leave gaps.

    Example:
        >>> name_units([1, 2]), name_units([3]), name_units([1, 2, 4])
        ('2', 'u3', 'u1-2.4')
    """
    if is_prefix(numbers):
        return str(len(numbers))
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    ranges = zip(starts, ends, strict=True)
    text = "u" + ".".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
    return text if len(text) <= _LONGEST else f"u{len(numbers)}of{numbers[-1]}"
