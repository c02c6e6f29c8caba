"""The command: its exit codes, and a sweep in which one run fails."""

import os
import subprocess
import sys

import pytest
from PIL import Image
from runs import tiny_command

from tlcnn.config.meaning import MEANINGS
from tlcnn.config.schema import list_keys
from tlcnn.records.read import read_runs


def train(*words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tlcnn.train", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["freeze=layr3"], 1, "Did you mean 'layer3'?"),
        (["train.lr=abc"], 1, "train.lr=abc is not allowed: it must be a number above 0."),
        (["dataset=folder", "dataset.root=nowhere"], 2, "nowhere"),
        (["dataset=synthetic", "cache_dir=/dev/null/x"], 73, "Set TLCNN_CACHE or cache_dir"),
        (["dataset=synthetic", "dataset.options.n_images=abc"], 1, "must be of type int"),
    ],
)
def test_what_is_wrong_is_one_screen_and_a_telling_code(words, code, message):
    done = train(*words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 25


def test_the_help_has_a_line_for_every_key_with_its_value_and_what_it_takes():
    done = train("--help", "dataset=table", "output_dir=a$b", "train.lr=0.01")
    assert done.returncode == 0, done.stderr
    assert set(MEANINGS) == set(list_keys())
    starts = [line.split("=")[0] for line in done.stdout.splitlines()]
    options = [start for start in starts if start.startswith("dataset.options.")]
    assert "dataset.options.csv" in options
    assert "rows whose image is not there" in done.stdout
    assert "an option of the reader" not in done.stdout
    mappings = ["dataset.options", "init.task_dataset", "init.task_run"]
    mappings += ["train.unit_lr", "train.augment_ranges"]
    assert all(starts.count(key) == 1 for key in list_keys() if key not in mappings)
    assert "train.lr=0.01" in done.stdout and "at its peak (a number above 0)" in done.stdout
    assert "output_dir=a$b" in done.stdout and "(one of adamw, sgd)" in done.stdout


def test_a_plan_shows_control_characters_of_class_names_as_escapes(tmp_path, cache_dir):
    for value, label in enumerate(("a\x1b[31m", "b")):
        folder = tmp_path / "my images (2)=ü" / label
        folder.mkdir(parents=True)
        for number in range(12):
            Image.new("L", (24, 24), 10 * number + value).save(folder / f"{number}.png")
    words = ["dataset=folder", f"dataset.root={tmp_path}/my images (2)=ü", "dataset.image_size=24"]
    words += ["model.name=test_resnet", f"cache_dir={cache_dir}", "device=cpu", "dry_run=true"]
    done = train(*words, "--config-dir", str(tmp_path), f"output_dir={tmp_path}/runs")
    assert done.returncode == 0, done.stderr
    assert r"a\x1b[31m" in done.stdout and "\x1b" not in done.stdout + done.stderr
    assert done.stderr.count("every image is taken as its own group") == 1


def test_a_sweep_goes_on_after_a_failure_and_again_does_nothing(tmp_path, cache_dir):
    sweep = tiny_command(tmp_path, cache_dir, "train.lr=1e-3,1e30", "train.clip_norm=null")
    first = train("-m", *sweep, "seed=0,1")
    assert first.returncode == 3, first.stderr
    states = read_runs(tmp_path)["state"].value_counts().to_dict()
    assert states == {"done": 2, "failed": 2}
    again = train("-m", *sweep, "seed=0,1")
    assert again.returncode == 3
    assert "0 trained, 2 skipped, 2 failed" in again.stdout and "log.txt" in again.stdout
