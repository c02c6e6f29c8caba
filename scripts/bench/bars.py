"""The ratios that tlcnn wants to reach, from what was measured."""

from collections.abc import Mapping

from bench.records import Bar, Section

OURS, AGAIN, PLAIN, TIMM = "tlcnn", "tlcnn again", "plain loop", "timm"
START_S, GAP_S = 2.0, 0.05


def find_bars(sections: Mapping[str, Section]) -> list[Bar]:
    """Return every bar; sides that were not run leave it without a number."""
    bars = []
    for name, size, wanted in (("", "64 px", 1.5), ("224", "224 px", 1.0)):
        bars += _find_single_bars(sections, name, size, wanted)
    return [
        *bars,
        *_find_frozen_bars(sections.get("frozen")),
        *_find_grid_bars(sections.get("grid")),
        *_find_data_bars(sections.get("data")),
        *_find_start_bars(sections),
    ]


def _find_single_bars(
    sections: Mapping[str, Section], name: str, size: str, wanted: float
) -> list[Bar]:
    limit, single = sections.get(f"limit{name}"), sections.get(f"single{name}")
    share = None if limit is None else limit.row("bf16", OURS).middle("share")
    bars = [Bar(f"one run, {size}, share of pure compute, bf16", 0.95, share)]
    for words, key in (
        ("an epoch, clock", "epoch_s"),
        ("an epoch, processor", "epoch_cpu_s"),
        ("whole with decoding, clock", "whole_s"),
    ):
        ratio = _ratio(single, "bf16", TIMM, OURS, key)
        bars.append(Bar(f"one run, {size}, timm / tlcnn, {words}", wanted, ratio))
    return bars


def _find_frozen_bars(section: Section | None) -> list[Bar]:
    bars = []
    for name, key in (("clock", "epoch_s"), ("processor", "epoch_cpu_s")):
        for what, word, wanted in (("all", "probe", 100), ("layer3", "layer3", 3)):
            ratio = _ratio(section, f"freeze={what}", PLAIN, AGAIN, key)
            bars.append(Bar(f"{word}, plain / tlcnn again, an epoch, {name}", wanted, ratio))
    return bars


def _find_grid_bars(section: Section | None) -> list[Bar]:
    bars = []
    for name, key in (("clock", "whole_s"), ("processor", "whole_cpu_s")):
        for peer, wanted in ((TIMM, 4), (PLAIN, 1)):
            ratio = _ratio(section, "grid", peer, OURS, key)
            bars.append(Bar(f"grid, {peer.split()[0]} / tlcnn, {name}", wanted, ratio))
    return bars


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


def _find_start_bars(sections: Mapping[str, Section]) -> list[Bar]:
    done = _middle(sections.get("start"), "already done", "whole", "s")
    gap = _middle(sections.get("resume"), "second cell", OURS, "s")
    return [
        Bar("already done, s", START_S, done, at_most=True),
        Bar("from a cell of a sweep to the next, s", GAP_S, gap, at_most=True),
    ]


def _middle(section: Section | None, what: str, side: str, key: str) -> float | None:
    if section is None or not section.has(what, side):
        return None
    row = section.row(what, side)
    return row.middle(key) if row.values.get(key) else None


def _ratio(section: Section | None, what: str, above: str, below: str, key: str) -> float | None:
    top, bottom = (_middle(section, what, side, key) for side in (above, below))
    return top / bottom if top is not None and bottom else None
