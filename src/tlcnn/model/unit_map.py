"""The unit map: which tensors and modules belong to each unit of a network. No torch."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from tlcnn.errors import ConfigError, did_you_mean
from tlcnn.storage import digest_of

GRANULARITIES = ("stage", "native", "block", "layer")
ALL_BUT = "all_but_"  # in front of a unit or a range: all other units

Units = int | Sequence[int]  # n means units 1..n; a sequence holds the numbers of units


def list_numbers(units: Units) -> tuple[int, ...]:
    """Return the numbers of some units in order.

    Example:
        >>> list_numbers(3), list_numbers([4, 2])
        ((1, 2, 3), (2, 4))
    """
    return tuple(range(1, units + 1)) if isinstance(units, int) else tuple(sorted(units))


def count_leading(numbers: Collection[int]) -> int:
    """Return how many units from the first one on are among some units.

    Example:
        >>> count_leading([1, 2, 4]), count_leading([2, 3])
        (2, 0)
    """
    return next(n for n in count() if n + 1 not in numbers)


def list_enclosing(path: str) -> list[str]:
    """Return the paths of the modules around a module and its own, outermost first.

    Example:
        >>> list_enclosing("layer1.0.conv1")
        ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def is_inside(path: str, modules: Iterable[str]) -> bool:
    """Return whether a path is one of the modules or lies inside one."""
    return any(path == module or path.startswith(module + ".") for module in modules)


@dataclass(frozen=True)
class Unit:
    """One transferable and freezable block of layers.

    Attributes:
        name: canonical name (`stem`, `stage1`, `neck`), or the native one at finer granularity.
        natives: the outermost modules of the network that lie wholly inside the unit (`layer3`).
        tensors: names of its parameters and buffers, as in `named_parameters`/`named_buffers`.
        modules: paths of its leaf modules in execution order, also those without tensors.
        stride: input pixels per output pixel, a power of two.
        cut_obstacle: the reason why the network cannot be cut behind this unit; None if it can,
            because a single tensor crosses from here to the next unit.
    """

    name: str
    natives: tuple[str, ...]
    tensors: tuple[str, ...]
    modules: tuple[str, ...]
    n_params: int
    stride: int
    cut_obstacle: str | None = None

    def outline(self, limit: int = 4) -> str:
        """Return the outermost modules that have tensors, the middle of many left out."""
        paths = [path for path in self.natives if any(is_inside(t, [path]) for t in self.tensors)]
        if len(paths) <= limit:
            return " ".join(paths)
        return f"{' '.join(paths[: limit - 2])} … {paths[-1]}"


@dataclass(frozen=True)
class UnitMap:
    """An exact partition of a network's tensors into L units, in execution order, and the head.

    Attributes:
        dropped: the outermost modules of units that a truncated network does not have.
    """

    model: str
    granularity: str
    units: tuple[Unit, ...]
    head: tuple[str, ...]
    head_modules: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.units)

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the units, in order."""
        return tuple(unit.name for unit in self.units)

    def count(self, through: Any) -> int:
        """Return how many units lie up to and including the one that holds `through`.

        Args:
            through: `none`, `all`, a canonical name, a native module path, or an integer.

        Raises:
            ConfigError: no unit of this model holds it; the message lists the names.
        """
        name = "none" if through is None else str(through).strip()
        if name in ("none", "all"):
            return 0 if name == "none" else len(self)
        if re.fullmatch(r"-?\d+", name):
            if 0 <= int(name) <= len(self):
                return int(name)
            raise ConfigError(
                f"{self.model} has {len(self)} units at granularity {self.granularity}, so a "
                f"number from 0 to {len(self)} is allowed, not {int(name)}. "
                f"Units: {self._listing()}"
            )
        if name in self.names:
            return self.names.index(name) + 1
        for holds in (_holds, _holds_short):
            numbers = [n for n, unit in enumerate(self.units, start=1) if holds(unit, name)]
            if len(numbers) == 1:
                return numbers[0]
        natives = [native for unit in self.units for native in unit.natives]
        raise ConfigError(
            f"{self.model} has no unit '{name}' at granularity {self.granularity}."
            f"{did_you_mean(name, [*self.names, *natives])}\n"
            f"Allowed: none, all, 0..{len(self)}, or a unit: {self._listing()}"
        )

    def select(self, units: Any) -> tuple[int, ...]:
        """Return the numbers of the units that are named, in order.

        Args:
            units: a unit as `count` takes it, a range (`stem-stage2`), `all_but_` in front of
                either, `none`, `all`, or a list of these.

        Raises:
            ConfigError: no unit of this model is named so, or a range ends before it starts.
        """
        if isinstance(units, (list, tuple)):
            return tuple(sorted({number for each in units for number in self.select(each)}))
        name = str(units).strip()
        if name in ("none", "all"):
            return list_numbers(self.count(name))
        if name.startswith(ALL_BUT):
            left_out = self.select(name.removeprefix(ALL_BUT))
            return tuple(n for n in list_numbers(len(self)) if n not in left_out)
        ends = re.fullmatch("(.+?)-(.+)", name)
        first, last = map(self.count, ends.groups() if ends else (name, name))
        if not 0 < first <= last:
            raise ConfigError(
                f"{name} is no unit and no range of units of {self.model}: units have numbers "
                f"from 1, and a range goes from the input to the output. Units: {self._listing()}"
            )
        return tuple(range(first, last + 1))

    def truncate(self, n_units: int) -> "UnitMap":
        """Return the map of the network that ends with unit `n_units` and the head."""
        dropped = [path for unit in self.units[n_units:] for path in unit.natives]
        return replace(self, units=self.units[:n_units], dropped=(*self.dropped, *dropped))

    def _listing(self) -> str:
        return ", ".join(
            unit.name if unit.natives[:1] == (unit.name,) else f"{unit.name} ({unit.outline()})"
            for unit in self.units
        )

    def tensors_of(self, first: int, last: int) -> tuple[str, ...]:
        """Return the tensor names of units first..last, counted from 1, both included."""
        return tuple(name for unit in self.units[first - 1 : last] for name in unit.tensors)

    def tensors_in(self, units: Units) -> tuple[str, ...]:
        """Return the tensor names of some units."""
        return tuple(t for number in list_numbers(units) for t in self.units[number - 1].tensors)

    def digest(self) -> str:
        """Return a hash of the names and tensors of the units, without strides and cuts."""
        return digest_of([[unit.name, sorted(unit.tensors)] for unit in self.units])

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "UnitMap":
        """Return the map that `dataclasses.asdict` made a JSON value of."""
        units = tuple(Unit(**_with_tuples(unit)) for unit in value["units"])
        return cls(**{**_with_tuples(value), "units": units})


def _with_tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}


def _holds(unit: Unit, path: str) -> bool:
    """Return whether a module with this path exists and lies wholly inside a unit."""
    exists = any(is_inside(module, [path]) for module in unit.modules)
    return exists and is_inside(path, unit.natives)


def _holds_short(unit: Unit, name: str) -> bool:
    """Return whether a unit holds a module given without its outer modules (`denseblock2`)."""
    ends = (f".{module}.".find(f".{name}.") for module in unit.modules)
    paths = {
        module[: at + len(name)] for module, at in zip(unit.modules, ends, strict=True) if at >= 0
    }
    return any(is_inside(path, unit.natives) for path in paths)
