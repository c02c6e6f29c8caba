"""Measurements: repeated values of named quantities, written as JSON and as Markdown tables."""

import hashlib
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "hydra-core", "pandas")


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


def describe_machine(device: str, threads: int, timm_train: Path | None = None) -> dict[str, Any]:
    """Return what the numbers depend on besides the code.

    Args:
        timm_train: timm's script, recorded by its digest.
    """
    cpu_info = Path("/proc/cpuinfo").read_text().splitlines()
    processors = [line.split(":")[1].strip() for line in cpu_info if line.startswith("model name")]
    gpu = None
    if device == "cuda":
        import torch

        gpu = torch.cuda.get_device_name()
    versions = {name: version(name) for name in PACKAGES}
    if timm_train is not None:
        digest = hashlib.sha256(timm_train.read_bytes()).hexdigest()
        versions["timm's train.py"] = f"sha256 {digest[:12]}"
    return {
        "processor": processors[0] if processors else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "gpu": gpu,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def write_results(path: Path, machine: dict[str, Any], sections: dict[str, Section]) -> None:
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


def render_markdown(machine: dict[str, Any], sections: dict[str, Section]) -> str:
    """Return the tables for people: medians, with the range in brackets."""
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items())
    parts = [
        f"{machine['gpu'] or machine['processor']}, {machine['cores']} cores, "
        f"{machine['threads']} threads a process, load {machine['load']:.1f} at the start; "
        f"Python {machine['python']}, {versions}; {machine['date']}; `{machine['command']}`."
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
