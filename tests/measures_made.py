"""Readings of measures of finished runs, without any network: a frame as `read_measures` has it.

The source is made general through its second unit of five.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from records_made import write_cell

from tlcnn.records.read import read_runs
from tlcnn.report.assemble import make_content
from tlcnn.report.content import Content

# value at units 1..5, null, ceiling, half of the interval (None: the measure has none)
CURVES = {
    ("probe", "pooled"): ((1.02, 0.99, 0.74, 0.55, 0.41), 0.0, 1.0, 0.06),
    ("probe", "components"): ((1.00, 0.97, 0.70, 0.58, 0.44), 0.0, 1.0, 0.07),
    ("cka", "pooled"): ((0.97, 0.95, 0.80, 0.52, 0.31), 0.22, 0.96, 0.03),
    ("cka", "spatial"): ((0.95, 0.92, 0.77, 0.49, 0.30), 0.22, 0.95, 0.03),
    ("reinit", "start"): ((0.01, 0.02, 0.03, 0.31, 0.62), None, None, 0.05),
    ("gradient", "mean"): ((8.1e-4, 6.0e-4, 4.2e-4, 2.4e-4, 1.1e-4), None, None, 1e-5),
    ("cka", "pooled against"): ((0.82, 0.71, 0.52, 0.33, 0.12), 0.05, 0.93, 0.03),
    ("logme", "start"): ((-0.61, -0.60, -0.61, -0.60, -0.61), None, None, 0.05),
    ("movement", "weights"): ((0.02, 0.03, 0.05, 0.09, 0.14), None, None, None),
    ("movement", "scales"): ((0.01, 0.02, 0.02, 0.04, 0.05), None, None, None),
}


def make_readings(runs: pd.DataFrame, **changed: object) -> pd.DataFrame:
    """Return the readings of every run of a frame of `read_runs`.

    Args:
        changed: columns that replace those that are made.
    """
    rows = []
    for run in runs.to_dict("records"):
        rng = np.random.default_rng([run["seed"]])
        named = {name: run[name] for name in ("run_id", "dataset", "model", "k", "j", "seed")}
        named |= {"source": run["init"], "against": "", "over": "test groups", "note": ""}
        for (measure, variant), (values, null, ceiling, half) in CURVES.items():
            luck = (half or 0.001) / 4 * rng.standard_normal(len(values))
            for n, value in enumerate(values + luck, start=1):
                unit = run["plan"].units[n - 1].unit
                ends = {"low": None if half is None else value - half}
                ends |= {"high": None if half is None else value + half}
                reading = {"measure": measure, "variant": variant, "n": n, "unit": unit}
                reading |= {"value": value, "null": null, "ceiling": ceiling, "n_images": 2500}
                rows.append({**named, **reading, **ends, **changed})
    return pd.DataFrame(rows)


def make_measured_content(folder: Path, *, n_seeds: int = 3, **changed: object) -> Content:
    """Return a report of a ladder of frozen units and readings of its full fine-tuning.

    The cost is below its margin through the second unit.

    Args:
        changed: columns of the readings to replace.
    """
    luck = np.random.default_rng(0)
    for j, cost in enumerate((0.0, -0.004, 0.002, 0.05, 0.08, 0.17)):
        scores = 0.7 - cost + 0.003 * luck.standard_normal(n_seeds)
        write_cell(folder, tuple(scores), j=j)
    runs = read_runs(folder)
    return make_content(runs, measures=make_readings(runs[runs["j"] == 0], **changed))
