"""Give whole groups to parts so that every part gets its share of every class.

Exact integer arithmetic and no randomness: the order of the groups decides between equals.
"""

import math
from collections.abc import Sequence
from fractions import Fraction


class Division:
    """G groups divided among P parts, and what each part still lacks of each of K classes.

    All numbers are in 1/scale images, so that the targets are whole.
    """

    def __init__(
        self, counts: Sequence[Sequence[int]], targets: Sequence[Sequence[Fraction]]
    ) -> None:
        scale = math.lcm(*(value.denominator for row in targets for value in row))
        self.counts = [{k: n * scale for k, n in enumerate(row) if n} for row in counts]
        self.sizes = [sum(row) * scale for row in counts]
        self.chosen = [-1] * len(self.counts)
        self.targets = [[int(value * scale) for value in row] for row in targets]
        self.lacking = [list(row) for row in self.targets]  # (P, K)
        self.room = [sum(row) for row in self.targets]  # (P,)
        self.total = [sum(column) for column in zip(*self.targets, strict=True)]  # (K,)
        self.seen = [0] * len(self.total)
        self.parts = [part for part, room in enumerate(self.room) if room > 0]
        common = math.lcm(*(total for total in self.total if total))
        # A rare class counts as much as a frequent one.
        self.weight = [common // total if total else 0 for total in self.total]

    def give(self, g: int, part: int) -> None:
        """Give a group to a part, away from the part that has it."""
        for receiver, sign in ((part, 1), (self.chosen[g], -1)):
            if receiver >= 0:
                self.room[receiver] -= sign * self.sizes[g]
                for k, n in self.counts[g].items():
                    self.lacking[receiver][k] -= sign * n
        self.chosen[g] = part

    def got(self, part: int, k: int) -> int:
        """Return what a part has of a class."""
        return self.targets[part][k] - self.lacking[part][k]

    def need_of_all(self, g: int, part: int) -> tuple[int, int, int]:
        """Return how far a part is from its target, weighted by what the group would bring."""
        counts = self.counts[g].items()
        lack = sum(n * self.lacking[part][k] * self.weight[k] for k, n in counts)
        return lack, self.room[part], -part

    def need_so_far(self, g: int, part: int) -> tuple[int, int, int]:
        """Return how far a part is behind its share of what has been seen, weighted likewise."""
        behind = 0
        for k, n in self.counts[g].items():
            fair = self.targets[part][k] * self.seen[k] - self.got(part, k) * self.total[k]
            behind += n * fair * self.weight[k] ** 2
        return behind, self.room[part], -part


def apportion(
    counts: Sequence[Sequence[int]], targets: Sequence[Sequence[Fraction]], *, ranked: bool
) -> list[int]:
    """Return the part of each group.

    There are two passes over the groups, from large to small. In the first pass a group goes to
    the part that is furthest behind its share of the images assigned so far, among the parts that
    can take it without passing a target. This keeps large and small groups in proportion. In the
    second pass each group that is left goes to the part that lacks most.

    Guarantee: if each group has one class, every part ends within one group of its target for
    each class, where that group is the largest of the class. Proof: after the first pass no part
    is above its target. In the second pass the part that lacks most gets a group, so it passes its
    target by at most that group. Suppose that part p lacked more than one group at the end. Every
    other part that got a group in the second pass lacked as much before its last one, so it is
    still below its target, and the remaining parts are not above theirs. Then the parts together
    lack images, but the targets add up to all images: a contradiction.

    Args:
        counts: (G, K) images of each class in each group, in the order that decides between
            equals.
        targets: (P, K) images of each class that each part should get; the sum over parts is the
            number of images of the class.
        ranked: whether earlier parts come first where a class has fewer groups than parts.
    """
    division = Division(counts, targets)
    lacking = division.lacking
    order = sorted(
        range(len(counts)), key=lambda g: (-len(division.counts[g]), -division.sizes[g])
    )
    for g in order:
        needs = division.counts[g].items()
        fitting = [p for p in division.parts if all(lacking[p][k] >= n for k, n in needs)]
        if fitting:
            for k, n in needs:
                division.seen[k] += n
            division.give(g, max(fitting, key=lambda part: division.need_so_far(g, part)))
    for g in order:
        if division.chosen[g] < 0:
            division.give(g, max(division.parts, key=lambda part: division.need_of_all(g, part)))
    _fill_absent(division, ranked)
    _fill_empty(division)
    return division.chosen


def _fill_absent(division: Division, ranked: bool) -> None:
    """Move a smallest group to each part that lacks a class, where the bound above allows it."""
    sizes, chosen, lacking = division.sizes, division.chosen, division.lacking
    for k in range(len(division.total)):
        if all(division.got(part, k) for part in division.parts):
            continue
        pure = [g for g, counts in enumerate(division.counts) if list(counts) == [k]]
        largest = max((sizes[g] for g in pure), default=0)
        for part in division.parts:
            if not division.targets[part][k] or division.got(part, k):
                continue
            allowed = [
                (sizes[g], lacking[chosen[g]][k], g)
                for g in pure
                if division.got(chosen[g], k) > sizes[g] or (ranked and chosen[g] > part)
                if lacking[chosen[g]][k] + sizes[g] <= largest
            ]
            if allowed:
                division.give(min(allowed)[-1], part)


def _fill_empty(division: Division) -> None:
    """Move a group to each part that has none at all, from a part that keeps its classes."""
    chosen = division.chosen
    for part in division.parts:
        if part in chosen:
            continue
        movable = [
            (division.room[chosen[g]], division.sizes[g], g)
            for g, counts in enumerate(division.counts)
            if all(division.got(chosen[g], k) > n for k, n in counts.items())
        ]
        if movable:
            division.give(min(movable)[-1], part)
