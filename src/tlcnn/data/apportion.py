"""Give whole groups to parts so that every part gets its share of every class.

Exact integer arithmetic and no randomness: the order of the groups decides between equals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property


@dataclass(frozen=True)
class GroupCounts:
    """A group and its number of images of each class, (K,)."""

    name: str
    counts: tuple[int, ...]

    @cached_property
    def size(self) -> int:
        """Number of images."""
        return sum(self.counts)

    @cached_property
    def present(self) -> tuple[int, ...]:
        """Classes that it has images of."""
        return tuple(k for k, count in enumerate(self.counts) if count)


class Shares:
    """What each of P parts has got and still lacks of each of K classes, in 1/`scale` images."""

    def __init__(self, targets: Sequence[Sequence[Fraction]]) -> None:
        fractions = [[Fraction(value) for value in row] for row in targets]
        self.scale = math.lcm(*(value.denominator for row in fractions for value in row))
        self.targets = [[int(value * self.scale) for value in row] for row in fractions]
        self.lacking = [list(row) for row in self.targets]  # (P, K)
        self.room = [sum(row) for row in self.targets]  # (P,)
        self.total = [sum(column) for column in zip(*self.targets, strict=True)]  # (K,)
        self.seen = [0] * len(self.total)
        self.parts = [part for part, room in enumerate(self.room) if room > 0]
        common = math.lcm(*(total for total in self.total if total))
        # A rare class counts as much as a frequent one.
        self.weight = [common // total if total else 0 for total in self.total]

    def give(self, group: GroupCounts, part: int, sign: int = 1) -> None:
        """Record that a part gets (or, with sign -1, loses) a group."""
        for k in group.present:
            self.lacking[part][k] -= sign * group.counts[k] * self.scale
        self.room[part] -= sign * group.size * self.scale

    def fits(self, group: GroupCounts, part: int) -> bool:
        """Whether a part can take a group without passing the target of any class."""
        return all(self.lacking[part][k] >= group.counts[k] * self.scale for k in group.present)

    def got(self, part: int, k: int) -> int:
        """Return what a part has of a class."""
        return self.targets[part][k] - self.lacking[part][k]

    def need_of_all(self, group: GroupCounts, part: int) -> tuple[int, int, int]:
        """Return how far a part is from its target, weighted by what the group would bring."""
        lacks = (group.counts[k] * self.lacking[part][k] * self.weight[k] for k in group.present)
        return sum(lacks), self.room[part], -part

    def need_so_far(self, group: GroupCounts, part: int) -> tuple[int, int, int]:
        """Return how far a part is behind its share of what has been seen, weighted likewise."""
        behind = 0
        for k in group.present:
            fair = self.targets[part][k] * self.seen[k] - self.got(part, k) * self.total[k]
            behind += group.counts[k] * fair * self.weight[k] ** 2
        return behind, self.room[part], -part


def apportion(
    groups: Sequence[GroupCounts], targets: Sequence[Sequence[Fraction]], *, ranked: bool
) -> list[int]:
    """Return the part of each group.

    Two passes, over groups from large to small. First a group goes to the part that is furthest
    behind its share *of what has been given so far*, among parts that can take it without passing
    a target: that keeps large and small groups in proportion. Then what is left goes to the part
    that lacks most. Where each group has one class, no part is then further from its target for
    a class than that class's largest group: after the first pass no part has too much, and if in
    the end part p lacked more than one group, every other part would have lacked as much when it
    last got one, so all parts would lack something, but together they lack nothing.

    Args:
        groups: G groups, in the order that decides between equals.
        targets: (P, K) images of each class that each part should get; the sum over parts is the
            number of images of the class.
        ranked: whether earlier parts come first where a class has fewer groups than parts.
    """
    shares = Shares(targets)
    order = sorted(range(len(groups)), key=lambda g: (-len(groups[g].present), -groups[g].size))
    chosen = [-1] * len(groups)
    for g in order:
        chosen[g] = _give_in_proportion(groups[g], shares)
    for g in order:
        if chosen[g] < 0:
            chosen[g] = max(shares.parts, key=lambda part: shares.need_of_all(groups[g], part))
            shares.give(groups[g], chosen[g])
    _fill_absent(groups, chosen, shares, ranked)
    _fill_empty(groups, chosen, shares)
    return chosen


def _give_in_proportion(group: GroupCounts, shares: Shares) -> int:
    """Give a group to a part that has room for it, and return the part; -1 if none has."""
    fitting = [part for part in shares.parts if shares.fits(group, part)]
    if not fitting:
        return -1
    for k in group.present:
        shares.seen[k] += group.counts[k] * shares.scale
    best = max(fitting, key=lambda part: shares.need_so_far(group, part))
    shares.give(group, best)
    return best


def _fill_absent(
    groups: Sequence[GroupCounts], chosen: list[int], shares: Shares, ranked: bool
) -> None:
    """Move a smallest group to each part that lacks a class, where the bound above allows it."""
    for k in range(len(shares.total)):
        if all(shares.got(part, k) for part in shares.parts):
            continue
        pure = [g for g, group in enumerate(groups) if group.present == (k,)]
        for part in shares.parts:
            if pure and shares.targets[part][k] and not shares.got(part, k):
                _move_smallest(groups, pure, chosen, shares, (part, k), ranked)


def _move_smallest(
    groups: Sequence[GroupCounts],
    pure: list[int],
    chosen: list[int],
    shares: Shares,
    target: tuple[int, int],
    ranked: bool,
) -> None:
    part, k = target
    largest = max(groups[g].size for g in pure)

    def can_give(g: int) -> bool:
        donor, size = chosen[g], groups[g].size
        spare = shares.got(donor, k) > size * shares.scale or (ranked and donor > part)
        return spare and shares.lacking[donor][k] + size * shares.scale <= largest * shares.scale

    allowed = [g for g in pure if can_give(g)]
    if allowed:
        best = min(allowed, key=lambda g: (groups[g].size, shares.lacking[chosen[g]][k], g))
        _move(groups, chosen, shares, best, part)


def _fill_empty(groups: Sequence[GroupCounts], chosen: list[int], shares: Shares) -> None:
    """Move a group to each part that has none at all, from a part that keeps its classes."""

    def can_give(g: int) -> bool:
        counts = groups[g].counts
        return all(shares.got(chosen[g], k) > counts[k] * shares.scale for k in groups[g].present)

    for part in shares.parts:
        movable = [] if part in chosen else [g for g in range(len(groups)) if can_give(g)]
        if movable:
            best = min(movable, key=lambda g: (shares.room[chosen[g]], groups[g].size, g))
            _move(groups, chosen, shares, best, part)


def _move(
    groups: Sequence[GroupCounts], chosen: list[int], shares: Shares, g: int, part: int
) -> None:
    shares.give(groups[g], chosen[g], sign=-1)
    shares.give(groups[g], part)
    chosen[g] = part
