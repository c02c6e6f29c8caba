"""`tlcnn power`: before a sweep, how many seeds a difference takes, and which are out of reach."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlcnn.errors import ConfigError
from tlcnn.text import align_columns, print_text

if TYPE_CHECKING:
    from tlcnn.statistics.power import Design

EXAMPLE = "tlcnn power --groups 49 77 165 17 167 1006 22 --seed-sd 0.01 --score 0.65 --effect 0.02"


def add_power(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "power",
        help="before a sweep: how many seeds a difference takes",
        description="How likely a true difference in balanced accuracy between two cells is found "
        f"(docs/statistics.md). E.g. {EXAMPLE}",
    )
    parser.add_argument("overrides", nargs="*", help="e.g. dataset=ham10000: its test groups")
    parser.add_argument("--effect", type=float, help="the difference to find; 0.02 is two points")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[3, 5, 10], help="default: 3 5 10", metavar="N"
    )
    add_design(parser)
    parser.add_argument("--power", type=float, default=0.8, help="wanted; default: 0.8")
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="default: 0.05; divide it by the family's size"
    )
    parser.set_defaults(command=_power)


def add_design(parser: argparse.ArgumentParser) -> None:
    """Add what is known of the test set and of how runs differ."""
    parser.add_argument(
        "--from", dest="pilot", metavar="FOLDER", help="estimate all of these from finished runs"
    )
    parser.add_argument(
        "--groups", type=int, nargs="+", metavar="N", help="test groups (lesions) of each class"
    )
    parser.add_argument(
        "--seed-sd", type=float, help="sd over seeds of the paired difference, e.g. 0.01"
    )
    parser.add_argument("--score", type=float, help="balanced accuracy of the cells, e.g. 0.65")
    parser.add_argument(
        "--agreement",
        type=float,
        help="share of test images on which two cells are both right or both wrong, e.g. 0.8; "
        "default: as if they were independent, the worst case",
    )
    parser.add_argument(
        "--seed-agreement",
        type=float,
        help="the same of two seeds of one cell; default: 1, the worst case",
    )


def _power(options: argparse.Namespace) -> None:
    _check(options)
    design, source = _make_design(options)
    print_text(source)
    print_text()
    print_text(describe_power(design, options.seeds, effect=options.effect, power=options.power))


def _check(options: argparse.Namespace) -> None:
    if not 0 < options.power < 1:
        raise ConfigError(f"--power {options.power}: between 0 and 1, e.g. 0.8")
    if min(options.seeds) < 2:
        raise ConfigError(f"--seeds {min(options.seeds)}: at least 2, to know how seeds differ")
    if options.effect is not None and not 0 < options.effect < 1:
        raise ConfigError(
            f"--effect {options.effect}: between 0 and 1, in units of balanced accuracy; 0.02 is "
            "two points"
        )


def _make_design(options: argparse.Namespace) -> "tuple[Design, str]":
    """Return the design, and a sentence on where it is from."""
    if options.pilot:
        return _load_design(options)
    from tlcnn.statistics.power import Design

    missing = [
        flag
        for flag, given in (("--seed-sd", options.seed_sd), ("--score", options.score))
        if given is None
    ]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} must be given, or --from FOLDER to estimate all from "
            f"finished runs. E.g. {EXAMPLE}"
        )
    groups, words = _find_groups(options)
    design = Design(
        tuple(groups),
        options.seed_sd,
        options.score,
        options.agreement,
        options.seed_agreement,
        options.alpha,
    )
    return design, words + _describe_assumptions(options)


def _load_design(options: argparse.Namespace) -> "tuple[Design, str]":
    given = [
        flag
        for flag, value in (
            ("--groups", options.groups),
            ("--seed-sd", options.seed_sd),
            ("--score", options.score),
            ("--agreement", options.agreement),
            ("--seed-agreement", options.seed_agreement),
            ("dataset overrides", options.overrides or None),
        )
        if value is not None
    ]
    if given:
        raise ConfigError(f"{', '.join(given)} beside --from, which estimates them: leave out one")
    import numpy as np

    from tlcnn.study.pilot import load_pilot

    pilot = load_pilot(options.pilot, alpha=options.alpha)
    design = pilot.design
    told = (design.score, design.agreement, design.seed_agreement)
    numbers = [float(np.mean(np.asarray(one, dtype=float))) for one in told]
    return design, (
        f"from {pilot.n_cells} cells ({pilot.n_pairs} pairs) on {pilot.dataset}, "
        f"{sum(design.groups_per_class)} test groups: seed sd {design.seed_sd:.4f}, "
        f"score {numbers[0]:.3f}, agreement {numbers[1]:.3f}, seed agreement {numbers[2]:.3f}"
    )


def _find_groups(options: argparse.Namespace) -> tuple[list[int], str]:
    if options.groups and options.overrides:
        raise ConfigError("--groups beside a dataset: leave out one")
    if options.groups:
        return (
            options.groups,
            f"{sum(options.groups)} test groups in {len(options.groups)} classes",
        )
    if not options.overrides:
        raise ConfigError(
            "the test groups of each class are unknown: name a dataset (dataset=ham10000), or "
            f"give --groups. E.g. {EXAMPLE}"
        )
    return count_test_groups(options.overrides)


def count_test_groups(overrides: Sequence[str]) -> tuple[list[int], str]:
    """Return the test groups per class of a configured dataset, and a sentence; opens no image.

    Raises:
        ConfigError: a class without test groups, or a task with several labels an image.
        DataError: the dataset is missing.
    """
    import numpy as np

    from tlcnn.config.compose import compose_config
    from tlcnn.data.dataset import load_dataset_index, split_index
    from tlcnn.statistics.resample import make_sample

    cfg = compose_config(overrides).dataset
    index = load_dataset_index(cfg)
    if index.task == "multi-label":
        raise ConfigError(f"{cfg.name} has several labels an image: only one can be planned for")
    test = index.table[split_index(index, cfg) == "test"]
    columns = (test[name].to_numpy() for name in ("group", "label", "image_id"))
    counts = np.bincount(make_sample(*columns).strata, minlength=len(index.classes)).tolist()
    parts = ", ".join(f"{name} {n}" for name, n in zip(index.classes, counts, strict=True))
    return counts, f"{cfg.name}: {sum(counts)} test groups ({parts})"


def _describe_assumptions(options: argparse.Namespace) -> str:
    assumed = []
    if options.agreement is None:
        assumed.append("cells err independently (--agreement)")
    if options.seed_agreement is None:
        assumed.append("seeds of one cell err alike (--seed-agreement)")
    return f"\nassumed, the worst cases: {'; '.join(assumed)}" if assumed else ""


def describe_power(
    design: "Design", seeds: Sequence[int], *, effect: float | None, power: float
) -> str:
    """Return the table of seeds, power and smallest differences, and a sentence."""
    from tlcnn.statistics.power import compute_design_power, find_effect

    rows = [["seeds", "smallest difference found"]]
    if effect is not None:
        rows[0].insert(1, f"power to find {effect:g}")
    for n_seeds in seeds:
        row = [str(n_seeds), _write(find_effect(design, n_seeds, power=power))]
        if effect is not None:
            row.insert(1, f"{compute_design_power(effect, design, n_seeds):.2f}")
        rows.append(row)
    table = "\n".join(align_columns(rows, range(len(rows[0]))))
    return f"{table}\n\n{describe_need(design, effect=effect, power=power)}"


def describe_need(design: "Design", *, effect: float | None, power: float) -> str:
    """Return how many seeds an effect takes, and what no number of seeds finds."""
    import math

    from tlcnn.statistics.power import find_effect, find_seeds

    least = find_effect(design, math.inf, power=power)
    floor = (
        f"With these test groups no number of seeds finds a difference below {_write(least)} with "
        f"{power:.0%} power."
    )
    if effect is None:
        return floor
    needed = find_seeds(effect, design, power=power)
    if math.isinf(needed):
        return f"{floor} For {effect:g}, more test groups are needed, not more seeds."
    return f"{needed:.0f} seeds are needed to find {effect:g} with {power:.0%} power. {floor}"


def _write(effect: float) -> str:
    return f"{effect:.4f}" if effect == effect else "none"
