"""`tlcnn power`: how many seeds are needed to find a difference, and which need more groups."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tlcnn.errors import ConfigError
from tlcnn.text import align_columns, count, print_text

if TYPE_CHECKING:
    from tlcnn.statistics.power import Design

LIMITED = 0.1  # if more seeds lower the smallest difference by this share at most, groups limit it
SMALL = 0.01  # a percentage point
EXAMPLE = "tlcnn power --groups 45 66 146 14 123 1080 20 --seed-sd 0.01 --score 0.65 --effect 0.02"


def add_power(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "power",
        help="how many seeds are needed to find a difference",
        description="How likely a true difference in balanced accuracy between two cells is found "
        f"(docs/statistics.md). E.g. {EXAMPLE}",
    )
    add = parser.add_argument
    add("overrides", nargs="*", help="a dataset whose test groups count, e.g. dataset=ham10000")
    add("--effect", type=float, help="the difference to find; 0.02 is two points")
    seeds = "numbers of seeds to show; default: 3 5 10"
    add("--seeds", type=int, nargs="+", default=[3, 5, 10], metavar="N", help=seeds)
    add("--power", type=float, default=0.8, help="the power to reach; default: 0.8")
    alpha = "the level of the test; default: 0.05. Divide it by the size of the family"
    add("--alpha", type=float, default=0.05, help=alpha)
    pilot = "estimate the options below from finished runs"
    add("--from", dest="pilot", metavar="FOLDER", help=pilot)
    groups = "test groups (lesions) of each class"
    add("--groups", type=int, nargs="+", metavar="N", help=groups)
    add("--seed-sd", type=float, help="sd over seeds of the paired difference, e.g. 0.01")
    add("--score", type=float, help="balanced accuracy of the cells, e.g. 0.65")
    agreement = "share of test images on which two cells are both right or both wrong, e.g. 0.8; "
    agreement += "default: as if they were independent, the worst case"
    add("--agreement", type=float, help=agreement)
    between_seeds = "the same share for two seeds of one cell; default: 1, the worst case"
    add("--seed-agreement", type=float, help=between_seeds)
    parser.set_defaults(command=_power)


def _power(options: argparse.Namespace) -> None:
    if not 0 < options.power < 1:
        raise ConfigError(f"--power {options.power}: between 0 and 1, e.g. 0.8")
    if min(options.seeds) < 2:
        raise ConfigError(
            f"--seeds {min(options.seeds)}: at least 2 are needed to know how seeds differ"
        )
    if options.effect is not None and not 0 < options.effect < 1:
        raise ConfigError(
            f"--effect {options.effect}: between 0 and 1, in units of balanced accuracy; 0.02 is "
            "two points"
        )
    design, source = _load_design(options) if options.pilot else _make_design(options)
    print_text(f"{source}\n")
    print_text(describe_power(design, options.seeds, effect=options.effect, power=options.power))


def _make_design(options: argparse.Namespace) -> "tuple[Design, str]":
    """Return the design of the options, and a sentence on where it is from."""
    from tlcnn.statistics.power import Design

    values = {"--seed-sd": options.seed_sd, "--score": options.score}
    missing = [flag for flag, value in values.items() if value is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} must be given, or --from FOLDER to estimate all from "
            f"finished runs. E.g. {EXAMPLE}"
        )
    groups, overrides = options.groups, options.overrides
    if groups and overrides:
        raise ConfigError("--groups and a dataset exclude each other: leave out one")
    if not groups and not overrides:
        raise ConfigError(
            "the test groups of each class are unknown: name a dataset (dataset=ham10000), or "
            f"give --groups. E.g. {EXAMPLE}"
        )
    if groups:
        source = f"{sum(groups)} test groups in {len(groups)} classes"
    else:
        groups, source = count_test_groups(overrides)
    shares = (options.agreement, options.seed_agreement)
    design = Design(tuple(groups), options.seed_sd, options.score, *shares, options.alpha)
    assumed = []
    if options.agreement is None:
        assumed.append("cells err independently (--agreement)")
    if options.seed_agreement is None:
        assumed.append("seeds of one cell err alike (--seed-agreement)")
    if assumed:
        source += f"\nassumed, the worst cases: {'; '.join(assumed)}"
    return design, source


def _load_design(options: argparse.Namespace) -> "tuple[Design, str]":
    """Return the design that finished runs have, and a sentence on where it is from."""
    import numpy as np

    from tlcnn.study.pilot import load_pilot

    names = ("groups", "seed_sd", "score", "agreement", "seed_agreement")
    excess = [f"--{n.replace('_', '-')}" for n in names if getattr(options, n) is not None]
    excess += ["dataset overrides"] if options.overrides else []
    if excess:
        raise ConfigError(f"--from estimates {', '.join(excess)}: leave out one or the other")
    pilot = load_pilot(options.pilot, alpha=options.alpha)
    design = pilot.design
    shares = (design.score, design.agreement, design.seed_agreement)
    score, agreement, seed_agreement = (np.asarray(share, float).mean() for share in shares)
    return design, (
        f"from {pilot.n_cells} cells ({count(pilot.n_pairs, 'pair')}) on {pilot.dataset}, "
        f"{sum(design.groups_per_class)} test groups: seed sd {design.seed_sd:.4f}, "
        f"score {score:.3f}, agreement {agreement:.3f}, seed agreement {seed_agreement:.3f}"
    )


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


def describe_power(
    design: "Design", seeds: Sequence[int], *, effect: float | None, power: float
) -> str:
    """Return a table of seeds, power and smallest differences, and how many seeds are needed."""
    from tlcnn.statistics.power import compute_design_power, find_effect, find_seeds

    columns = [["seeds", *map(str, seeds)]]
    if effect is not None:
        powers = [f"{compute_design_power(effect, design, n):.2f}" for n in seeds]
        columns.append([f"power to find {effect:g}", *powers])
    smallest = [_format_effect(find_effect(design, n, power=power)) for n in seeds]
    columns.append(["smallest difference found", *smallest])
    table = "\n".join(align_columns([*zip(*columns, strict=True)], range(len(columns))))
    least = find_effect(design, math.inf, power=power)
    bound = (
        "any difference" if math.isnan(least) else f"a difference below {_format_effect(least)}"
    )
    need = f"With these test groups no number of seeds finds {bound} with {power:.0%} power."
    if effect is not None:
        n_needed = find_seeds(effect, design, power=power)
        if math.isinf(n_needed):
            need += f" For {effect:g}, more test groups are needed, not more seeds."
        else:
            answer = f"{n_needed:.0f} seeds are needed to find {effect:g} with {power:.0%} power."
            need = f"{answer} {need}"
    lasting = find_effect(design, min(seeds), power=power) - least
    if lasting <= LIMITED * least:
        more = replace(design, groups_per_class=tuple(4 * n for n in design.groups_per_class))
        larger = _format_effect(find_effect(more, min(seeds), power=power))
        need += (
            " Here the test groups limit what is found, and not the seeds: with four times the "
            f"test groups and {min(seeds)} seeds the smallest difference found is {larger}."
        )
    return f"{table}\n\n{need}"


def _format_effect(effect: float) -> str:
    """Return a difference to a tenth of a point: the t test's approximations are no finer.

    One below a point has two significant digits, so that it is not shown as 0.
    """
    if math.isnan(effect):
        return "none"
    return f"{effect:.3f}" if effect >= SMALL else f"{effect:.2g}"
