"""What the cells of tlcnn's grid compute once for all, and where a cell's seconds go."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from bench.grid import N_CELLS, count_reuse
from bench.records import Section
from bench.sides import Case, make_tlcnn_words
from bench.watch import watch

CLOCKS = Path(__file__).with_name("clocks.py")
GRID = "grid"  # the folder of the timed grid


def measure_cells(case: Case) -> Section:
    """Train the triangle of one seed from an empty cache, with clocks around tlcnn's functions.

    The counts are of the grid that was timed, where it was.
    """
    this = replace(case, seeds=case.seeds[:1], cache=case.work / "cache-cells")
    output, told = case.work / "cells", case.work / "clocks.json"
    words = [*make_tlcnn_words(this, output), "progress=false"]
    watch([sys.executable, str(CLOCKS), str(told), *words])
    clocks = json.loads(told.read_text())
    timed = case.work / GRID
    timed, cache = (timed, case.work / "cache-grid") if timed.is_dir() else (output, this.cache)
    which = "timed grid" if timed != output else "cells below"
    section = Section(
        f"What the cells of the grid share, and where their seconds go ({case.model}, "
        f"{case.image_size} px, batch {case.batch_size}, {case.epochs} epochs, {case.precision})",
        [
            f"by j, the frozen units: of the {which}, from summary.json; images computed are "
            "passes of an image through frozen units, arrays are boundary tensors of a view",
            f"seconds a cell: a second run of seed {this.seeds[0]} ({N_CELLS} cells) from an "
            "empty cache, clocks around tlcnn's functions, each without those inside it",
            f"torch.compile was called {clocks['compiles']} times",
        ],
    )
    count_reuse(section, timed, cache)
    whole = clocks["whole"]
    for name in sorted(clocks["wall_s"], key=clocks["cpu_s"].get, reverse=True):
        section.row(name, "tlcnn").add(
            ms_per_cell=1000 * clocks["wall_s"][name] / N_CELLS,
            cpu_ms_per_cell=1000 * clocks["cpu_s"][name] / N_CELLS,
            percent=100 * clocks["wall_s"][name] / whole["wall_s"],
            cpu_percent=100 * clocks["cpu_s"][name] / whole["cpu_s"],
            calls=clocks["calls"][name],
        )
    section.row("whole", "tlcnn").add(
        ms_per_cell=1000 * whole["wall_s"] / N_CELLS,
        cpu_ms_per_cell=1000 * whole["cpu_s"] / N_CELLS,
    )
    return section
