"""scripts/gpu_check.py: every part runs on a CPU, and what fails does not end the others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import gpu_check  # noqa: E402


@pytest.fixture
def options(tmp_path):
    words = ["--dry", "-o", str(tmp_path), "--only", "bits", "reuse", "--seconds", "20"]
    return gpu_check.make_parser().parse_args(words)


def write_script(tmp_path, monkeypatch, text):
    script = tmp_path / "script.py"
    script.write_text(text)
    monkeypatch.setattr(gpu_check, "__file__", str(script))


def test_a_part_that_fails_says_its_last_words(options, tmp_path, monkeypatch):
    write_script(tmp_path, monkeypatch, "raise SystemExit('the card has gone')")
    reason = gpu_check.run_inside("bits", options, [], 0.0)
    assert reason == "code 1: the card has gone"


def test_a_part_has_a_limit_of_time_and_leaves_its_rows(options, tmp_path, monkeypatch):
    write_script(
        tmp_path,
        monkeypatch,
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path)!r}, 'bits-rows.json').write_text("
        '\'[{"what": "a", "value": "1", "bar": ">= 2", "is_met": false}]\')\n'
        "time.sleep(99)\n",
    )
    options.seconds = 3
    reason = gpu_check.run_inside("bits", options, [], 0.0)
    assert reason == "over 3 s"
    text = gpu_check.write_table(options, {"bits": reason, "reuse": ""}, 3.0)
    assert "| bits | a | 1 | >= 2 | **not met** |" in text
    assert "| bits | the part | over 3 s | | **not whole** |" in text
    assert (tmp_path / "table.md").read_text() == text


def test_what_comes_is_announced(options, capsys):
    gpu_check.announce(options)
    text = capsys.readouterr().out
    assert "2 parts: at most 40 s" in text and "killed and resumed" in text


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "scripts" / "gpu_check.py"),
        "--dry",
        "-o",
        str(tmp_path),
    ]
    ended = subprocess.run([*command, "--seconds", "900"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for part in gpu_check.PARTS:
        rows = json.loads((tmp_path / f"{part}-rows.json").read_text())
        assert rows and not any(row["is_met"] is False for row in rows), rows
        assert f"| {part} |" in (tmp_path / "table.md").read_text()
    assert "not whole" not in ended.stdout
