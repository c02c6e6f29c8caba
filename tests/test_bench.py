"""The benchmark's parts on a few tiny images: all sides learn the same, all numbers are there."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from bench.images import SHAPE, pick, write_folder  # noqa: E402
from bench.records import Section, render_markdown, write_results  # noqa: E402
from bench.sides import (  # noqa: E402
    Case,
    make_timm_words,
    make_tlcnn_words,
    run_plain,
    run_timm,
    run_tlcnn,
)
from bench.watch import watch  # noqa: E402

MACHINE = {
    "hardware": "some processor",
    "cores": 2,
    "threads": 1,
    "load": 0.5,
    "python": "3.11",
    "packages": {"torch": "2", "pyarrow": None},
    "command": "python scripts/bench.py",
    "date": "today",
}


COUNTS = {"train": 32, "val": 16, "test": 16}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    work = tmp_path_factory.mktemp("bench")
    return Case(
        data=write_folder(work / "images", COUNTS, source=None, cache_dir=work / "prepared"),
        weights=work / "start.safetensors",
        work=work,
        cache=work / "cache",
        model="resnet10t",
        image_size=32,
        batch_size=16,
        epochs=2,
        precision="fp32",
        workers=0,
    )


@pytest.fixture(scope="module")
def started(case):
    """The same with weights to start from."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model(case.model, num_classes=len(list((case.data / "train").iterdir())))
    save_file(model.state_dict(), case.weights)
    return case


def test_images_are_jpegs_of_the_published_size_in_three_splits(case):
    from PIL import Image

    found = {split: len(list((case.data / split).rglob("*.jpg"))) for split in COUNTS}
    assert found == COUNTS
    with Image.open(next(case.data.rglob("*.jpg"))) as image:
        assert image.size == SHAPE
    ids = [path.stem for path in case.data.rglob("*.jpg")]
    assert len(ids) == len(set(ids)) == sum(COUNTS.values())


def test_every_class_is_in_every_split(case):
    """Readers of folders number the classes that they find in a split."""
    found = [{path.name for path in (case.data / split).iterdir()} for split in COUNTS]
    assert found[0] == found[1] == found[2] and len(found[0]) > 2


def test_what_is_picked_has_every_class_first():
    labels = ["a"] * 50 + ["b", "c"]
    picked = pick(labels, 5).tolist()
    assert len(set(picked)) == 5 and {labels[i] for i in picked} == {"a", "b", "c"}
    assert pick(labels, 5).tolist() == picked and sorted(pick(labels, 52)) == list(range(52))
    with pytest.raises(SystemExit, match="53 images"):
        pick(labels, 53)


@pytest.mark.slow
def test_both_sides_train_and_tell_everything(started):
    for side in (run_tlcnn, run_plain):
        result = side(started, f"both-{side.__name__}")
        assert 0 < result.first_s < result.wall_s and len(result.epoch_s) == started.epochs - 1
        assert result.cpu_s > 0 and all(0 < seconds < result.wall_s for seconds in result.epoch_s)
        assert 0 <= result.accuracy <= 1 and result.peak_mib > 50


@pytest.mark.slow
def test_the_plain_loop_learns(started):
    """What it is trained on is what it is judged on, far above the commonest class."""
    longer = replace(started, epochs=12, augment="none", batch_size=8)
    images = started.work / "learned"
    for split in ("train", "val", "test"):
        images.mkdir(exist_ok=True)
        (images / split).symlink_to(started.data / "train")
    longer = replace(longer, data=images)
    assert run_plain(longer, "plain").accuracy > 0.8


def test_all_sides_are_told_the_same(case):
    ours = make_tlcnn_words(replace(case, precision="bf16", freeze="layer3"), case.work / "o")
    theirs = make_timm_words(replace(case, precision="bf16"), "name")
    assert "freeze.through=layer3" in ours and "train.batch_size=16" in ours
    assert theirs[theirs.index("-b") + 1] == "16" and "--amp" in theirs
    assert "--amp" not in make_timm_words(case, "name")
    assert f"init.weights='{case.weights}'" in ours and str(case.weights) in theirs


def test_timms_epochs_end_with_the_last_line_of_their_evaluation(case, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import pathlib, sys\n"
        "words = sys.argv\n"
        "work, name = (words[words.index(f'--{key}') + 1] for key in ('output', 'experiment'))\n"
        "out = pathlib.Path(work, name)\n"
        "out.mkdir()\n"
        "(out / 'summary.csv').write_text('epoch,eval_top1\\n0,40.0\\n1,55.0\\n2,50.0\\n')\n"
        "for epoch in range(3):\n"
        "    print(f'Train: {epoch} [0/2]'); print('Test: [0/1]'); print('Test: [1/1]')\n"
    )
    result = run_timm(script, replace(case, work=tmp_path), "name")
    assert result.accuracy == pytest.approx(0.55) and len(result.epoch_s) == 2
    assert result.disk_mib > 0 and not (tmp_path / "name").exists()


def test_a_program_that_fails_says_its_last_words():
    with pytest.raises(SystemExit, match="what went wrong"):
        watch("-c", "raise SystemExit('what went wrong')")


def test_a_program_is_watched_line_by_line():
    work = "print('one'); [i * i for i in range(3_000_000)]; print('two')"
    code = f"import time; {work}; time.sleep(99)"  # not input(): there may be no terminal
    watched = watch("-c", code, kill_at="two")
    assert [line.text for line in watched.lines] == ["one", "two"]
    assert watched.lines[0].at_s < watched.lines[1].at_s < watched.wall_s
    assert 0.02 < watched.cpu_s < 10
    assert 1 < watched.peak_mib < 100  # that of the program, not of this process


def test_tables_have_every_row(tmp_path):
    section = Section("One run", ["a note"])
    for side, seconds in (("tlcnn", (1.0, 3.0, 2.0)), ("timm", (4.0, 4.0, 4.0))):
        for value in seconds:
            section.add("bf16", side, epoch_s=value, epoch_cpu_s=2 * value)
    text = render_markdown(MACHINE, {"single": section})
    assert "| bf16 | tlcnn | 2 (1–3) | 4 (2–6) |" in text and "| bf16 | timm | 4 | 8 |" in text
    write_results(tmp_path / "b.json", MACHINE, {"single": section})
    content = json.loads((tmp_path / "b.json").read_text())
    assert content.keys() == {"machine", "sections"}
    assert content["sections"]["single"]["rows"][0]["values"]["epoch_s"] == [1.0, 3.0, 2.0]


@pytest.mark.slow
def test_the_whole_benchmark_writes_json_and_markdown(tmp_path):
    output = tmp_path / "bench.json"
    words = "--scale tiny --model resnet10t --image-size 32 --threads 1 --seeds 1"
    command = [sys.executable, str(ROOT / "scripts" / "bench.py"), *words.split()]
    subprocess.run([*command, "-o", str(output)], check=True, capture_output=True)
    content = json.loads(output.read_text())
    sections = content["sections"]
    assert list(sections) == [
        *("limit", "data", "single", "limit224", "single224", "frozen", "grid", "start", "resume"),
        "analysis",
    ]
    assert {row["side"] for row in sections["limit"]["rows"]} == {"tlcnn", "pure compute"}
    assert {row["side"] for row in sections["grid"]["rows"]} == {"tlcnn", "plain loop"}
    assert {row["task"] for row in sections["analysis"]["rows"]} == {"computed", "skipped"}
    (next_cell,) = [r for r in sections["resume"]["rows"] if r["task"] == "next cell"]
    assert len(next_cell["values"]["s"]) == 7
    assert "| already done | whole |" in output.with_suffix(".md").read_text()
