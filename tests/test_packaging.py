"""The wheel holds the configuration and works without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from runs import tiny_command

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_ships_every_yaml(wheel):
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".yaml")}
    conf = {f"tlcnn/conf/{p.relative_to(ROOT / 'conf')}" for p in ROOT.glob("conf/**/*.yaml")}
    assert shipped == conf


def test_an_installed_wheel_trains_from_an_empty_folder(wheel, tmp_path, cache_dir):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)  # what installing a pure wheel does
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tlcnn.train", *tiny_command("outputs", cache_dir)]
    subprocess.run(command, cwd=empty, env=environment, check=True)
    (run,) = (empty / "outputs" / "runs").iterdir()
    assert (run / "DONE").is_file()
    where = "import tlcnn, sys; print(tlcnn.__file__)"
    found = subprocess.check_output([sys.executable, "-c", where], cwd=empty, env=environment)
    assert str(installed) in found.decode()
