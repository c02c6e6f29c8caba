"""What was measured: rows of repeated values, as JSON and as Markdown."""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "hydra-core", "pandas")


@dataclass
class Row:
    """One thing that one side did, measured a few times.

    Attributes:
        what: the same on every side.
        values: a list of measurements for each quantity, named with its unit.
    """

    what: str
    side: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        """Note one measurement of each quantity."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def middle(self, name: str) -> float:
        """Return the median of a quantity."""
        return median(self.values[name])


@dataclass
class Section:
    """One part of the benchmark: a title, what each side did, and rows."""

    title: str
    notes: list[str]
    rows: list[Row] = field(default_factory=list)

    def row(self, what: str, side: str) -> Row:
        """Return the row of a side, and make it first if it is new."""
        for row in self.rows:
            if (row.what, row.side) == (what, side):
                return row
        self.rows.append(Row(what, side))
        return self.rows[-1]

    def has(self, what: str, side: str) -> bool:
        """Return whether a row is there."""
        return any((row.what, row.side) == (what, side) for row in self.rows)


@dataclass(frozen=True)
class Bar:
    """A ratio that is wanted, and what was measured; None where a side was not run.

    Attributes:
        at_most: whether the number may be at most what is wanted, instead of at least.
    """

    name: str
    wanted: float
    measured: float | None
    at_most: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether it is reached."""
        if self.measured is None:
            return None
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted


def describe_machine(device: str, threads: int, timm_train: Path | None = None) -> dict[str, Any]:
    """Return what the numbers depend on besides the code.

    Args:
        timm_train: timm's script, which is told by its digest.
    """
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
    gpu = None
    if device == "cuda":
        import torch

        gpu = torch.cuda.get_device_name()
    versions = {name: version(name) for name in PACKAGES}
    if timm_train is not None:
        digest = hashlib.sha256(timm_train.read_bytes()).hexdigest()
        versions["timm's train.py"] = f"sha256 {digest[:12]}"
    return {
        "processor": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "gpu": gpu,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def write_json(
    path: Path, machine: dict[str, Any], sections: dict[str, Section], bars: Sequence[Bar]
) -> None:
    """Write everything that was measured."""
    content = {
        "machine": machine,
        "sections": {name: asdict(section) for name, section in sections.items()},
        "bars": [{**asdict(bar), "is_met": bar.is_met} for bar in bars],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def render_markdown(
    machine: dict[str, Any], sections: dict[str, Section], bars: Sequence[Bar]
) -> str:
    """Return the tables for people: medians, with the least and the most in brackets."""
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    head = [
        f"{machine['gpu'] or machine['processor']}, {machine['cores']} cores, "
        f"{machine['threads']} threads a process, load {machine['load']:.1f} at the start; "
        f"Python {machine['python']}, {versions}; {machine['date']}; `{machine['command']}`.",
    ]
    parts = [*head, *(_render_section(section) for section in sections.values())]
    return "\n\n".join(filter(None, [*parts, _render_bars(bars)])) + "\n"


def _render_section(section: Section) -> str:
    parts = ["\n".join([f"### {section.title}", "", *(f"- {note}" for note in section.notes)])]
    for rows in group_rows(section.rows):
        names = list(dict.fromkeys(name for row in rows for name in row.values))
        lines = [
            [row.what, row.side, *(_spread(row.values.get(name, [])) for name in names)]
            for row in rows
        ]
        parts.append("\n".join(_render_table(["", "side", *map(_spell, names)], lines)))
    return "\n\n".join(parts)


def group_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """Return rows whose columns are among each other's: a table each."""
    groups: list[list[Row]] = []
    for row in rows:
        names = set(row.values)
        for group in groups:
            known = {name for other in group for name in other.values}
            if names <= known or known <= names:
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def _render_bars(bars: Sequence[Bar]) -> str:
    lines = [
        [
            bar.name,
            f"{'≤' if bar.at_most else '≥'} {bar.wanted:g}",
            f"{bar.measured:.3g}",
            "yes" if bar.is_met else "no",
        ]
        for bar in bars
        if bar.measured is not None
    ]
    if not lines:
        return ""
    parts = ["### Bars", "\n".join(_render_table(["bar", "wanted", "measured", "met"], lines))]
    lacking = [bar.name for bar in bars if bar.measured is None]
    return "\n\n".join([*parts, *([f"Not measured: {'; '.join(lacking)}."] if lacking else [])])


def _render_table(head: list[str], lines: list[list[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *lines]
    return [f"| {' | '.join(row)} |" for row in rows]


def _spell(name: str) -> str:
    return name.replace("_per_", "/").replace("_", " ")


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    text = _number(median(values))
    return (
        text
        if len(values) == 1 or _number(low) == _number(high)
        else (f"{text} ({_number(low)}–{_number(high)})")
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
