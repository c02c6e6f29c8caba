"""The benchmark's grid: which cells are trained, and which are estimated from them."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from bench.sides import Case, Result  # noqa: E402
from bench.trainings import extend, measure_grid, multiply  # noqa: E402


def make_result(wall_s, epoch_s=(), accuracy=0.5):
    cpu_s = tuple(2 * s for s in epoch_s)
    return Result(wall_s, 2 * wall_s, 1.0, epoch_s, cpu_s, accuracy, 100.0 * wall_s, 10.0)


def test_programs_of_one_cell_are_multiplied():
    whole = multiply([make_result(10.0), make_result(14.0), make_result(12.0)], 63)
    assert (whole.wall_s, whole.cpu_s, whole.disk_mib) == (63 * 12, 2 * 63 * 12, 630)
    assert whole.peak_mib == 1400  # of the largest, not of all


def test_a_program_of_many_cells_goes_on_without_another_start():
    # 2 cells of 3 epochs in 5 s of start + 6 x 2 s; 4 more cells are 12 epochs more
    whole = extend(make_result(17.0, (2.0,) * 5), 2, 6)
    assert whole.wall_s == pytest.approx(17 + 12 * 2) and whole.cpu_s == pytest.approx(34 + 48)
    assert extend(make_result(17.0, (2.0,) * 5), 6, 6).wall_s == 17


@pytest.fixture
def recorded_sides():
    """Sides that note what they are asked to train, and the notes."""
    calls = []

    def make_side(name, result):
        def side(case, run):
            calls.append((name, case.grid, case.seeds, run))
            return result

        return side

    sides = {
        "tlcnn": make_side("tlcnn", make_result(100.0, accuracy=0.7)),
        "plain loop": make_side("plain loop", make_result(47.0, (1.0,) * 41, 0.6)),
        "timm": make_side("timm", make_result(8.0, accuracy=0.8)),
    }
    return sides, calls


def test_the_grid_is_measured_whole_or_estimated(recorded_sides, tmp_path):
    sides, calls = recorded_sides
    case = Case(tmp_path, tmp_path, tmp_path, tmp_path, seeds=(0, 1, 2), views=4, grid=True)
    section = measure_grid(case, sides, 1)
    assert [name for name, *_ in calls] == ["timm", "tlcnn", "timm", "plain loop", "timm"]
    assert [seeds for name, _, seeds, _ in calls if name == "timm"] == [(0,), (1,), (2,)]
    assert calls[1][1:3] == (True, (0, 1, 2)) and calls[3][1:3] == (True, (0,))
    rows = {side: values for (_, side), values in section.rows.items()}
    assert [rows[s]["n_measured"][0] for s in ("tlcnn", "plain loop", "timm")] == [63, 21, 3]
    assert rows["timm"]["whole_s"] == [8 * 63] and rows["timm"]["n_cells"] == [63]
    assert rows["plain loop"]["whole_s"] == [47 + 42 * 2] and rows["tlcnn"]["whole_s"] == [100]


def test_without_timm_and_with_all_seeds_nothing_is_estimated(recorded_sides, tmp_path):
    sides, calls = recorded_sides
    del sides["timm"]
    case = Case(tmp_path, tmp_path, tmp_path, tmp_path, seeds=(0, 1), grid=True)
    section = measure_grid(case, sides, None)
    assert [(name, seeds) for name, _, seeds, _ in calls] == [
        ("tlcnn", (0, 1)),
        ("plain loop", (0, 1)),
    ]
    assert all(values["n_measured"] == [42] for values in section.rows.values())
