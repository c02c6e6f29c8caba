"""Measurements: repeated values of named quantities, written as JSON and as Markdown tables."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tlcnn.device import count_cores, find_device
from tlcnn.records.environment import make_session


@dataclass
class Section:
    """One part of the benchmark.

    Attributes:
        notes: what a reader must know about the numbers.
        rows: (task, side) to the measurements of each quantity; a quantity's name has its unit.
    """

    title: str
    notes: list[str]
    rows: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def add(self, task: str, side: str, **values: float) -> None:
        """Note one measurement of each quantity."""
        row = self.rows.setdefault((task, side), {})
        for quantity, value in values.items():
            row.setdefault(quantity, []).append(value)


def describe_machine(device: str, cache_dir: Path, timm_train: Path | None) -> dict[str, Any]:
    """Return what the numbers depend on besides the code; of timm's script, the digest."""
    hardware = find_device(device, cache_dir).hardware
    session = make_session(device=device, hardware=hardware, threads=count_cores())
    scripts = {}
    if timm_train is not None:
        digest = hashlib.sha256(timm_train.read_bytes()).hexdigest()
        scripts["timm's train.py"] = f"sha256 {digest[:12]}"
    return {
        **asdict(session),
        "packages": {**session.packages, **scripts},
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def write_results(path: Path, machine: Mapping[str, Any], sections: Mapping[str, Section]) -> None:
    """Write everything that was measured, as JSON and beside it as Markdown."""
    content: dict[str, Any] = {"machine": machine, "sections": {}}
    for name, section in sections.items():
        rows = [
            {"task": task, "side": side, "values": values}
            for (task, side), values in section.rows.items()
        ]
        content["sections"][name] = {"title": section.title, "notes": section.notes, "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".md").write_text(render_markdown(machine, sections), encoding="utf-8")


def render_markdown(machine: Mapping[str, Any], sections: Mapping[str, Section]) -> str:
    """Return the tables for people: medians, with the range in brackets."""
    versions = [f"{name} {text}" for name, text in machine["packages"].items() if text]
    parts = [
        f"{machine['hardware']}, {machine['cores']} cores, {machine['threads']} threads a "
        f"process, load {machine['load']:.1f} at the start; Python {machine['python']}, "
        f"{', '.join(versions)}; {machine['date']}; `{machine['command']}`."
    ]
    for section in sections.values():
        parts.append(f"### {section.title}")
        parts.append("\n".join(f"- {note}" for note in section.notes))
        quantities = list(dict.fromkeys(name for row in section.rows.values() for name in row))
        titles = [name.replace("_per_", "/").replace("_", " ") for name in quantities]
        lines = [["", "side", *titles], ["---"] * (2 + len(titles))]
        for (task, side), row in section.rows.items():
            lines.append([task, side, *(_format_values(row.get(name, [])) for name in quantities)])
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _format_values(values: list[float]) -> str:
    """Return the median and, where they differ from it, the least and the largest value."""
    if not values:
        return ""
    middle, low, high = (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        for value in (median(values), min(values), max(values))
    )
    return middle if low == high else f"{middle} ({low}–{high})"
