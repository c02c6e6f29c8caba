"""The ratios that tlcnn wants to reach, from what was measured."""

from collections.abc import Mapping

from bench.records import Bar, Section

# The median of one side divided by that of another:
# name, wanted, section, task, side above, side below, quantity.
RATIOS = [
    *(
        (
            f"one run, {size} px, timm / tlcnn, {what}",
            wanted,
            section,
            "bf16",
            "timm",
            "tlcnn",
            key,
        )
        for size, section, wanted in ((64, "single", 1.5), (224, "single224", 1.0))
        for what, key in (
            ("an epoch, clock", "epoch_s"),
            ("an epoch, processor", "epoch_cpu_s"),
            ("whole with decoding, clock", "whole_s"),
        )
    ),
    *(
        (
            f"{name}, plain / tlcnn again, an epoch, {what}",
            wanted,
            "frozen",
            f"freeze={layer}",
            "plain loop",
            "tlcnn again",
            key,
        )
        for what, key in (("clock", "epoch_s"), ("processor", "epoch_cpu_s"))
        for name, layer, wanted in (("probe", "all", 100), ("layer3", "layer3", 3))
    ),
    *(
        (f"grid, {peer} / tlcnn, {what}", wanted, "grid", "grid", side, "tlcnn", key)
        for what, key in (("clock", "whole_s"), ("processor", "whole_cpu_s"))
        for peer, side, wanted in (("timm", "timm", 4), ("plain", "plain loop", 1))
    ),
    *(
        (f"data path, {size}, {augment}, {what}", 50, "data", size, above, below, quantity)
        for size in ("64 px", "128 px")
        for augment in ("standard", "none")
        for what, above, below, quantity in (
            ("clock", f"tlcnn, {augment}", f"DataLoader, {augment}", "images_per_s"),
            ("processor", f"DataLoader, {augment}", f"tlcnn, {augment}", "cpu_us_per_image"),
        )
    ),
]

# The median of one quantity: name, wanted, is at most, section, task, side, quantity.
VALUES = [
    (
        "one run, 64 px, share of pure compute, bf16",
        0.95,
        False,
        "limit",
        "bf16",
        "tlcnn",
        "share",
    ),
    ("one run, 224 px, share of pure compute, bf16", 0.95, False)
    + ("limit224", "bf16", "tlcnn", "share"),
    ("already done, s", 2.0, True, "start", "already done", "whole", "s"),
    ("from a cell of a sweep to the next, s", 0.05, True, "resume", "next cell", "tlcnn", "s"),
]


def find_bars(sections: Mapping[str, Section]) -> list[Bar]:
    """Return every bar; sides that were not run leave it without a number."""

    def median(section: str, task: str, side: str, quantity: str) -> float | None:
        return sections[section].median(task, side, quantity) if section in sections else None

    bars = [
        Bar(name, wanted, median(section, task, side, quantity), at_most)
        for name, wanted, at_most, section, task, side, quantity in VALUES
    ]
    for name, wanted, section, task, above, below, quantity in RATIOS:
        numerator = median(section, task, above, quantity)
        denominator = median(section, task, below, quantity)
        ratio = numerator / denominator if numerator is not None and denominator else None
        bars.append(Bar(name, wanted, ratio))
    return bars
