"""The ratios that tlcnn wants to reach, from what was measured."""

from collections.abc import Mapping

from bench.records import Bar, Section


def find_bars(sections: Mapping[str, Section]) -> list[Bar]:
    """Return every bar; sides that were not run leave it without a number."""
    single, frozen, grid = (sections.get(name) for name in ("single", "frozen", "grid"))
    epoch, whole = "epoch_s", "whole_s"
    ours, again, plain = "tlcnn", "tlcnn again", "plain loop"
    bars = [Bar("one run, share of pure compute, bf16", 0.95, _limit(sections.get("limit")))]
    for name, key in (("clock", epoch), ("processor", "epoch_cpu_s")):
        bars += [
            Bar(f"one run, timm / tlcnn, {name}", 1.5, _ratio(single, "bf16", "timm", ours, key)),
            Bar(f"probe, plain / tlcnn again, an epoch, {name}", 100,
                _ratio(frozen, "freeze=all", plain, again, key)),
            Bar(f"layer3, plain / tlcnn again, an epoch, {name}", 3,
                _ratio(frozen, "freeze=layer3", plain, again, key)),
        ]  # fmt: skip
    for name, key in (("clock", whole), ("processor", "whole_cpu_s")):
        bars += [
            Bar(f"grid, timm / tlcnn, {name}", 4, _ratio(grid, "grid", "timm", ours, key)),
            Bar(f"grid, plain / tlcnn, {name}", 1, _ratio(grid, "grid", plain, ours, key)),
        ]
    return [*bars, *_find_data_bars(sections.get("data"))]


def _ratio(section: Section | None, what: str, above: str, below: str, key: str) -> float | None:
    if section is None or not (section.has(what, above) and section.has(what, below)):
        return None
    return section.row(what, above).middle(key) / section.row(what, below).middle(key)


def _limit(section: Section | None) -> float | None:
    return None if section is None else section.row("bf16", "tlcnn").middle("share")


def _find_data_bars(section: Section | None) -> list[Bar]:
    if section is None:
        return [Bar("data path, tlcnn / DataLoader", 50, None)]
    bars = []
    for what in dict.fromkeys(row.what for row in section.rows):
        for augment in ("standard", "none"):
            sides = (f"tlcnn, {augment}", f"DataLoader, {augment}")
            ratio = _ratio(section, what, *sides, "images_per_s")
            cpu = _ratio(section, what, *sides[::-1], "cpu_us_per_image")
            bars += [
                Bar(f"data path, {what}, {augment}, clock", 50, ratio),
                Bar(f"data path, {what}, {augment}, processor", 50, cpu),
            ]
    return bars
