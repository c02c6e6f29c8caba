"""The ratios that tlcnn wants to reach, from what was measured."""

from collections.abc import Mapping

from bench.records import Bar, Section

EPOCH, EPOCH_CPU = ("an epoch, clock", "epoch_s"), ("an epoch, processor", "epoch_cpu_s")


def find_bars(sections: Mapping[str, Section]) -> list[Bar]:
    """Return every bar; sides that were not run leave it without a number."""
    bars: list[Bar] = []

    def median(section: str, task: str, side: str, quantity: str) -> float | None:
        return sections[section].median(task, side, quantity) if section in sections else None

    def add_ratio(
        name: str, target: float, section: str, task: str, sides: tuple[str, str], quantity: str
    ) -> None:
        above, below = (median(section, task, side, quantity) for side in sides)
        ratio = above / below if above is not None and below else None
        bars.append(Bar(name, target, ratio))

    for size, suffix, target in ((64, "", 1.5), (224, "224", 1.0)):
        share = median(f"limit{suffix}", "bf16", "tlcnn", "share")
        bars.append(Bar(f"one run, {size} px, share of pure compute, bf16", 0.95, share))
        for what, quantity in (EPOCH, EPOCH_CPU, ("whole with decoding, clock", "whole_s")):
            name = f"one run, {size} px, timm / tlcnn, {what}"
            add_ratio(name, target, f"single{suffix}", "bf16", ("timm", "tlcnn"), quantity)
    for what, quantity in (EPOCH, EPOCH_CPU):
        sides = ("plain loop", "tlcnn again")
        name = f"plain / tlcnn again, {what}"
        add_ratio(f"probe, {name}", 100, "frozen", "freeze=all", sides, quantity)
        add_ratio(f"layer3, {name}", 3, "frozen", "freeze=layer3", sides, quantity)
    for what, quantity in (("clock", "whole_s"), ("processor", "whole_cpu_s")):
        add_ratio(f"grid, timm / tlcnn, {what}", 4, "grid", "grid", ("timm", "tlcnn"), quantity)
        sides = ("plain loop", "tlcnn")
        add_ratio(f"grid, plain / tlcnn, {what}", 1, "grid", "grid", sides, quantity)
    for size in ("64 px", "128 px"):
        for augment in ("standard", "none"):
            name, peers = f"data path, {size}, {augment}", ("tlcnn", "DataLoader")
            fast, slow = (f"{peer}, {augment}" for peer in peers)
            add_ratio(f"{name}, clock", 50, "data", size, (fast, slow), "images_per_s")
            add_ratio(f"{name}, processor", 50, "data", size, (slow, fast), "cpu_us_per_image")
    done_s = median("start", "already done", "whole", "s")
    next_s = median("resume", "next cell", "tlcnn", "s")
    bars.append(Bar("already done, s", 2.0, done_s, at_most=True))
    bars.append(Bar("from a cell of a sweep to the next, s", 0.05, next_s, at_most=True))
    return bars
