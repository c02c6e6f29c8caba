"""The benchmark's arithmetic: cells that are reckoned, clocks, growth, and memory that is told."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from bench.bars import find_bars  # noqa: E402
from bench.clocks import PLACES, Clocks  # noqa: E402
from bench.grid import count_reuse, measure_grid, reckon  # noqa: E402
from bench.million import PROGRAM, add_part, find_limit, joining, write_array  # noqa: E402
from bench.records import Row, Section, group_rows, render_markdown  # noqa: E402
from bench.sides import Case, Result  # noqa: E402
from bench.watch import watch  # noqa: E402


def make_result(wall_s, epoch_s=(), accuracy=0.5):
    cpu = tuple(2 * s for s in epoch_s)
    return Result(wall_s, 2 * wall_s, 1.0, epoch_s, cpu, accuracy, 100.0 * wall_s, 10.0)


def test_programs_of_one_cell_are_multiplied():
    whole = reckon([make_result(10.0), make_result(14.0), make_result(12.0)], 3, 63)
    assert (whole.wall_s, whole.cpu_s, whole.disk_mib) == (63 * 12, 2 * 63 * 12, 630)
    assert whole.peak_mib == 1400  # of the largest, not of all


def test_a_program_of_many_cells_goes_on_without_another_start():
    # 2 cells of 3 epochs in 5 s of start + 6 x 2 s; 4 more cells are 12 epochs more
    whole = reckon([make_result(17.0, (2.0,) * 5)], 2, 6)
    assert whole.wall_s == pytest.approx(17 + 12 * 2) and whole.cpu_s == pytest.approx(34 + 48)
    assert reckon([make_result(17.0, (2.0,) * 5)], 6, 6).wall_s == 17


@pytest.fixture
def asked():
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


def test_the_grid_is_measured_whole_or_reckoned_and_says_so(asked, tmp_path):
    sides, calls = asked
    case = Case(tmp_path, tmp_path, tmp_path, tmp_path, seeds=(0, 1, 2), views=4, grid=True)
    section = measure_grid(case, sides, 256, 1)
    assert [name for name, *_ in calls] == ["timm", "tlcnn", "timm", "plain loop", "timm"]
    assert [seeds for name, _, seeds, _ in calls if name == "timm"] == [(0,), (1,), (2,)]
    assert calls[1][1:3] == (True, (0, 1, 2)) and calls[3][1:3] == (True, (0,))
    rows = {row.side: row.values for row in section.rows}
    assert [rows[s]["n_measured"][0] for s in ("tlcnn", "plain loop", "timm")] == [63, 21, 3]
    assert rows["timm"]["whole_s"] == [8 * 63] and rows["timm"]["n_cells"] == [63]
    assert rows["plain loop"]["whole_s"] == [47 + 42 * 2] and rows["tlcnn"]["whole_s"] == [100]
    notes = " ".join(section.notes)
    assert "21 of 63 cells were trained" in notes and "3 of 63 were trained" in notes
    bars = {bar.name: bar.measured for bar in find_bars({"grid": section})}
    assert bars["grid, timm / tlcnn, clock"] == 8 * 63 / 100


def test_without_timm_and_with_all_seeds_nothing_is_reckoned(asked, tmp_path):
    sides, calls = asked
    del sides["timm"]
    case = Case(tmp_path, tmp_path, tmp_path, tmp_path, seeds=(0, 1), grid=True)
    section = measure_grid(case, sides, 256, None)
    assert [(name, seeds) for name, _, seeds, _ in calls] == [
        ("tlcnn", (0, 1)),
        ("plain loop", (0, 1)),
    ]
    assert not any("were trained (" in note or "of 42 cells" in note for note in section.notes)


def test_what_cells_share_is_counted_by_frozen_units(tmp_path):
    for k, j, computed in ((0, 0, 0), (3, 2, 640), (4, 2, 0)):
        folder = tmp_path / "runs" / f"folder-resnet18-checkpoint-k{k}-j{j}-s0-abcdef"
        folder.mkdir(parents=True)
        reuse = {"images_computed": computed, "images_reused": 100, "arrays_filled": 2}
        summary = {"train_s": 2.0, "images_per_s": 50.0} | ({"reuse": reuse} if j else {})
        (folder / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "key.json").write_text(json.dumps({"shape": [384, 72, 72, 3]}))
    section = Section("cells", [])
    count_reuse(section, tmp_path, tmp_path)
    rows = {row.what: row.values for row in section.rows}
    assert rows["j=2"]["images_computed"] == [640] and rows["j=2"]["images_reused"] == [200]
    assert rows["all"]["cells"] == [3] and rows["all"]["arrays_filled"] == [4]
    assert rows["images of all cells"]["decoded"] == [384]
    assert rows["images of all cells"]["trained_on"] == [300]


def test_a_clock_leaves_out_what_is_inside():
    clocks = Clocks()

    def outer():
        time.sleep(0.02)
        clocks.time("inner", lambda: time.sleep(0.05))

    clocks.time("outer", outer)
    clocks.time("outer", lambda: None)
    assert clocks.calls == {"inner": 1, "outer": 2}
    assert 0.05 <= clocks.wall_s["inner"] < 0.5 and 0.02 <= clocks.wall_s["outer"] < 0.2
    with pytest.raises(ZeroDivisionError):
        clocks.time("failed", lambda: 1 / 0)
    assert clocks.calls["failed"] == 1 and len(clocks._inner) == 1


def test_every_clocked_function_is_there():
    """A place that is called otherwise now would be counted as something else."""
    clocks = Clocks()
    before = {}
    for place in PLACES:
        module, path = place.split(":")
        clocks_owner = __import__(module, fromlist=["_"])
        *outer, last = path.split(".")
        for part in outer:
            clocks_owner = getattr(clocks_owner, part)
        before[place] = (clocks_owner, last, getattr(clocks_owner, last))
    try:
        for place, name in PLACES.items():
            clocks.watch(place, name)
        clocks.watch("tlcnn.run.run:nothing", "nothing")
    finally:
        for owner, last, function in before.values():
            setattr(owner, last, function)
    assert clocks.missing == ["tlcnn.run.run:nothing"]


def test_rows_of_other_columns_are_a_table_of_their_own():
    rows = [Row("a", "x", {"s": [1.0]}), Row("b", "x", {"ms": [1.0]}), Row("c", "x", {"s": [2.0]})]
    rows.append(Row("d", "x", {"s": [1.0], "share": [0.9]}))
    assert [[row.what for row in group] for group in group_rows(rows)] == [["a", "c", "d"], ["b"]]


def test_growth_is_an_exponent():
    from bench.growth import compute_exponent, list_bookkeeping

    assert compute_exponent({10: 5.0, 100: 1.0, 1000: 10.0}) == pytest.approx(1)
    assert compute_exponent({100: 1.0, 200: 4.0}) == pytest.approx(2)
    for name, work in list_bookkeeping(60).items():
        assert name and work() is not False


def test_the_array_of_a_million_has_no_hole_and_no_two_images_alike(tmp_path):
    path = write_array(tmp_path / "a.u8", 10, chunk=4)
    images = np.fromfile(path, np.uint8).reshape(10, 72, 72, 3)
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_memory_of_a_part_is_told():
    section = Section("million", [])
    memory = {"own_mib": 300.0, "mapped_mib": 200.0, "cached_mib": 90.0}
    add_part(section, {"what": "start", **memory})
    add_part(section, {"what": "part", "images": 6400, "rate": 1500.0, **memory})
    text = render_markdown(
        {"gpu": "x", "cores": 1, "threads": 1, "load": 0.0, "python": "3", "versions": {},
         "date": "", "command": ""},
        {"million": section},
        [],
    )  # fmt: skip
    assert "to image 6,400" in text and "1,500" in text and "### Bars" not in text


def test_a_cgroup_is_made_joined_and_deleted(tmp_path):
    """With a folder in the place of the kernel's, whose files are there from the start."""
    made = []

    class Folder(type(tmp_path)):
        def mkdir(self, *args, **words):
            super().mkdir(*args, **words)
            for name in ("memory.max", "memory.swap.max", "cgroup.procs"):
                (self / name).write_text("")
            made.append(Path(self))

        def rmdir(self):
            assert (self / "memory.max").read_text() == str(600 * 2**20)
            for path in Path(self).iterdir():
                path.unlink()
            super().rmdir()

    with joining(Folder(tmp_path), 600) as words:
        watched = watch([*words, sys.executable, "-c", "import os; print(os.getpid())"])
        assert (made[0] / "cgroup.procs").read_text().strip() == watched.lines[0].text
    assert not made[0].exists()
    assert "cgroup in" in find_limit(600, tmp_path)[0]


@pytest.mark.slow
def test_an_epoch_of_rows_keeps_below_its_limit(tmp_path):
    array = write_array(tmp_path / "a.u8", 6_400)  # 95 MiB
    words = [str(array), "--n-images=6400", "--parts=4", "--augment=none"]
    free = watch([sys.executable, str(PROGRAM), *words]).lines
    told = [json.loads(line.text) for line in free]
    assert [one["what"] for one in told] == ["start", "ids and order", *["part"] * 4]
    assert told[-1]["images"] == 6400 and told[-1]["cached_mib"] > 90 and told[-1]["rate"] > 0
    write_array(array, 6_400)
    limit = round(told[-1]["own_mib"] + 40)
    kept = watch([sys.executable, str(PROGRAM), *words, f"--limit-mib={limit}"]).lines
    assert max(json.loads(line.text)["cached_mib"] for line in kept) < 60
    with pytest.raises(SystemExit, match="are more than 100"):
        watch([sys.executable, str(PROGRAM), *words, "--limit-mib=100"])
